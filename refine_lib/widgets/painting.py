"""A hole that is being painted: strokes, rectangles and undo, as plain pixels. No widget in here."""

import io

import numpy as np
import torch
from PIL import Image, ImageDraw

from refine_lib.plots.style import HOLE_COLOR

N_UNDO = 50
SHOWN_SIDE = 1024  # px: the longest side of the mask that is sent to be shown


class Painting:
    """A mask of some size, and what undo goes back to. Points are (x, y) in pixels, x to the right, y down."""

    def __init__(self, height, width):
        self._mask = Image.new("L", (width, height))
        self._before = []  # packed to a bit a pixel

    @property
    def size(self):
        """(H, W) in pixels."""
        return self._mask.height, self._mask.width

    @property
    def mask(self):
        """(1, 1, H, W), 1 = hole, float32."""
        return torch.from_numpy(self._pixels())[None, None].float()

    def stroke(self, points, width, erase=False):
        """Paints a line through points, round at its ends and corners; a single point leaves a dot."""
        self._keep()
        draw, fill, radius = ImageDraw.Draw(self._mask), 0 if erase else 255, (max(width, 1) - 1) / 2
        points = [tuple(point) for point in points]
        if len(points) > 1:
            draw.line(points, fill=fill, width=max(round(width), 1))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def rectangle(self, corner, opposite, erase=False):
        """Paints a rectangle between two of its corners."""
        self._keep()
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(corner, opposite, strict=True))
        ImageDraw.Draw(self._mask).rectangle((left, top, right, bottom), fill=0 if erase else 255)

    def clear(self):
        """Leaves no hole."""
        self._keep()
        self._set(np.zeros(self.size, dtype=bool))

    def invert(self):
        """Turns the hole into what is known, and what is known into the hole."""
        self._keep()
        self._set(~self._pixels())

    def load(self, mask):
        """Takes a mask, (1, 1, H, W) of 0 and 1, or of another size: the nearest pixel counts."""
        self._keep()
        given = Image.fromarray((mask[0, 0] > 0.5).cpu().numpy())
        self._mask = given.resize(self._mask.size, Image.Resampling.NEAREST).convert("L")

    def undo(self):
        """Takes the last change back. Returns whether there was one."""
        if not self._before:
            return False
        bits = np.unpackbits(self._before.pop(), count=self._mask.width * self._mask.height)
        self._set(bits.reshape(self.size) > 0)
        return True

    def to_png(self):
        """What to lay over the picture: the hole in its colour, the rest transparent; at most ``SHOWN_SIDE`` px, a bit each."""
        shown = self._mask.copy()
        shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
        bits = shown.point(lambda value: value > 0, mode="1")  # a hole never shrinks, or a thin one would not be seen
        palette = Image.fromarray(np.asarray(bits, dtype=np.uint8), mode="P")
        palette.putpalette([0, 0, 0, *HOLE_COLOR.tolist()])
        file = io.BytesIO()
        palette.save(file, "PNG", bits=1, transparency=bytes([0, 190]))
        return file.getvalue()

    def _pixels(self):
        return np.asarray(self._mask) > 127

    def _set(self, pixels):
        self._mask = Image.fromarray(pixels).convert("L")

    def _keep(self):
        self._before = [*self._before, np.packbits(self._pixels())][-N_UNDO:]
