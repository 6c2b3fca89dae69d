"""A hole that is being painted: strokes, rectangles and undo, as plain pixels. No widget in here."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from refine_lib.plots.style import HOLE_COLOR
from refine_lib.widgets.draw import png_of

N_UNDO = 50
SHOWN_SIDE_PX = 1024  # the longest side of the mask that is sent to be shown
NEAR = 6  # of 255: such shades are one, as a lossy file has them
Point = Sequence[float]  # x, y


class Painting:
    """A mask of some size, and what undo goes back to. Points are (x, y) in pixels, x to the right, y down.

    It begins without a hole, or with a mask (1, 1, height, width), 1 = hole.
    """

    def __init__(self, height: int, width: int, mask: torch.Tensor | None = None):
        pixels = np.zeros((height, width), bool) if mask is None else _of_mask(mask)
        self._mask = Image.fromarray(pixels).convert("L")
        self._before: list[np.ndarray] = []  # packed to a bit a pixel
        self._after: list[np.ndarray] = []  # what was undone, the latest last

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
        """Takes a mask of its own size, (1, 1, H, W) of 0 and 1."""
        self._change_to(_of_mask(mask))

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether the last change was taken back."""
        return bool(self._after)

    def undo(self) -> None:
        """Takes the last change back, if there is one."""
        self._go(self._before, self._after)

    def redo(self) -> None:
        """Makes the change again that was taken back last, if nothing was changed since."""
        self._go(self._after, self._before)

    def to_png(self, box: tuple[int, int, int, int] | None = None) -> bytes:
        """Returns what to lay over the picture: the hole in its color, the rest transparent; a bit a pixel.

        Its sides are at most ``SHOWN_SIDE_PX``. A box (left, top, right, bottom) in pixels is a part of the picture.
        """
        shown = self._mask.crop(box) if box else self._mask.copy()
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
        self._before, self._after = [*self._before, np.packbits(self._pixels())][-N_UNDO:], []

    def _go(self, there, back):
        if there:
            width, height = self._mask.size
            back.append(np.packbits(self._pixels()))
            bits = np.unpackbits(there.pop(), count=width * height)
            self._mask = Image.fromarray(bits.reshape(height, width) > 0).convert("L")


def _of_mask(mask):
    return (mask[0, 0] > 0.5).cpu().numpy()


def looks_like_a_mask(share: np.ndarray) -> bool:
    """Returns whether a picture, shares of white in [0, 1], has a ground near black or white and hardly more than two shades.

    A soft mask has more, but they are fewer pixels. A photo has many, or a ground of another shade.
    """
    count, shades = np.bincount((255 * share).round().astype(int).ravel(), minlength=256), np.arange(256)
    ground = count.argmax()
    is_ground = np.abs(shades - ground) <= NEAR
    is_second = np.abs(shades - np.where(is_ground, 0, count).argmax()) <= NEAR
    return bool(min(ground, 255 - ground) <= 4 * NEAR and count[is_ground | is_second].sum() >= 0.6 * count.sum())
