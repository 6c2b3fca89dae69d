"""A hole that is being painted: strokes, rectangles and undo, as plain pixels. No widget in here."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from refine_lib.plots.style import HOLE_COLOR
from refine_lib.widgets.draw import png_of

N_UNDO = 50
SHOWN_SIDE_PX = 1024  # the longest side of the mask that is sent to be shown
Point = Sequence[float]  # x, y


class Painting:
    """A mask of some size, and what undo goes back to. Points are (x, y) in pixels, x to the right, y down."""

    def __init__(self, height: int, width: int):
        self._mask = Image.new("L", (width, height))
        self._before: list[np.ndarray] = []  # packed to a bit a pixel

    @property
    def mask(self) -> torch.Tensor:
        """(1, 1, H, W), 1 = hole, float32."""
        return torch.from_numpy(self._pixels())[None, None].float()

    def stroke(self, points: Sequence[Point], width: float, erase: bool = False) -> None:
        """Paints a line through points, round at its ends and corners; a single point leaves a dot."""
        draw, fill, radius = self._pen(), 0 if erase else 255, (max(width, 1) - 1) / 2
        if len(points) > 1:
            draw.line([tuple(point) for point in points], fill=fill, width=max(round(width), 1))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def rectangle(self, corner: Point, opposite: Point, erase: bool = False) -> None:
        """Paints a rectangle between two of its corners."""
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(corner, opposite, strict=True))
        self._pen().rectangle((left, top, right, bottom), fill=0 if erase else 255)

    def clear(self) -> None:
        """Leaves no hole."""
        self._change_to(np.zeros_like(self._pixels()))

    def invert(self) -> None:
        """Turns the hole into what is known, and what is known into the hole."""
        self._change_to(~self._pixels())

    def load(self, mask: torch.Tensor) -> None:
        """Takes a mask, (1, 1, H, W) of 0 and 1, or of another size: the nearest pixel counts."""
        given = Image.fromarray((mask[0, 0] > 0.5).cpu().numpy())
        self._change_to(np.asarray(given.resize(self._mask.size, Image.Resampling.NEAREST)))

    def undo(self) -> None:
        """Takes the last change back, if there is one."""
        if self._before:
            width, height = self._mask.size
            bits = np.unpackbits(self._before.pop(), count=width * height)
            self._mask = Image.fromarray(bits.reshape(height, width) > 0).convert("L")

    def to_png(self) -> bytes:
        """Returns what to lay over the picture: the hole in its color, the rest transparent; a bit a pixel.

        Its sides are at most ``SHOWN_SIDE_PX``.
        """
        shown = self._mask.copy()
        shown.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX), Image.Resampling.BOX)
        palette = Image.fromarray((np.asarray(shown) > 0).astype(np.uint8), mode="P")  # above 0: a thin hole is seen as well
        palette.putpalette([0, 0, 0, *HOLE_COLOR.tolist()])
        return png_of(palette, bits=1, transparency=bytes([0, 190]))

    def _pixels(self):
        return np.asarray(self._mask) > 127

    def _pen(self):
        self._keep()
        return ImageDraw.Draw(self._mask)

    def _change_to(self, pixels):
        self._keep()
        self._mask = Image.fromarray(pixels).convert("L")

    def _keep(self):
        self._before = [*self._before, np.packbits(self._pixels())][-N_UNDO:]
