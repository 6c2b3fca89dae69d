"""The thin, medium and thick holes of the paper's Table 1: random strokes and boxes, with LaMa's published settings."""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch

from refine_lib.checks import as_integer, as_size, check_choice
from refine_lib.device import plainly

UNIT = 512  # px, the size that lengths and widths are given for
LONGEST_SIDE = 64  # of the short one: such a hole is drawn 512 px high
LARGEST_SHARE = 0.5  # of the picture; a larger hole is drawn again


@dataclass(frozen=True)
class Strokes:
    """Chains of 1 to 5 straight segments: how many, and how long and wide a segment is, in pixels of a 512 px picture."""

    count: tuple[int, int]  # fewest and most
    longest: int  # a segment is 10 + U[0, longest) long
    widest: int  # and 5 + U[0, widest) wide


@dataclass(frozen=True)
class Boxes:
    """Upright boxes: how many, their sides, and how far they stay from the picture's edge, in pixels of a 512 px picture."""

    count: tuple[int, int]
    side: tuple[int, int]  # from the first to one below the second
    margin: int


# Source: LaMa's published settings for its test masks. A hole is strokes or boxes, in the relation 1 to 0.3; thin is strokes.
KINDS = {
    "thin": (Strokes((4, 70), 100, 20), None),
    "medium": (Strokes((4, 10), 200, 100), Boxes((1, 5), (30, 150), 0)),
    "thick": (Strokes((1, 5), 450, 250), Boxes((1, 4), (30, 300), 10)),
}
STROKES_TO_BOXES = (1, 0.3)


@plainly
def brush_mask(kind: str, size: int | tuple[int, int], seed: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """A random hole of a kind, the same for the same seed at every size and on every machine.

    Args:
        kind: ``"thin"``, ``"medium"`` or ``"thick"``.
        size: (H, W), or one number for a square, in pixels. The hole scales with the short side.
        seed: 0 to 2**32 - 1.
        device: where the mask is wanted; it is drawn on the CPU.

    Returns:
        A float32 mask (1, 1, H, W), 1 = hole; at 512 px at most half of it is hole. (Below some
        80 px a thin stroke may fall between the pixels' centers.)

    Raises:
        ValueError: where an argument is not as above, or a side is over 64 times as long as the other.

    Source: section 4 of the paper, which takes its thin, medium and thick brushes from LaMa (Suvorov et al., 2021).
    """
    check_choice(kind, "kind", KINDS)
    (height, width), seed = as_size(size), as_integer(seed, "seed", "", most=2**32 - 1)
    if max(height, width) > LONGEST_SIDE * min(height, width):
        raise ValueError(f"size is {(height, width)}; expected a long side of at most {LONGEST_SIDE} short ones")
    strokes, boxes = KINDS[kind]
    scale = min(height, width) / UNIT
    canvas = round(height / scale), round(width / scale)  # the picture in the pixels that the settings are given for
    random = np.random.RandomState(seed)  # whose numbers NumPy promises never to change (NEP 19)
    while True:
        chance = random.uniform(0, sum(STROKES_TO_BOXES))
        shapes = list(_strokes(strokes, canvas, random) if not boxes or chance < 1 else _boxes(boxes, canvas, random))
        if _drawn(shapes, *canvas, 1).mean() <= LARGEST_SHARE:  # asked at one size, so that all sizes take the same hole
            return torch.from_numpy(_drawn(shapes, height, width, scale)).float()[None, None].to(device)


def seed_of(*words: object) -> int:
    """A seed for ``brush_mask`` from numbers and names: that of a picture's hole, whatever other pictures there are."""
    return zlib.crc32("/".join(map(str, words)).encode())


def _strokes(settings, canvas, random):
    """Segments ((x0, y0), (x1, y1), width) of each chain."""
    height, width = canvas
    for chain in range(random.randint(settings.count[0], settings.count[1] + 1)):
        x, y = random.randint(width), random.randint(height)
        for _ in range(random.randint(1, 6)):
            angle = 0.01 + random.randint(4)
            if chain % 2 == 0:
                angle = 2 * math.pi - angle
            length, brush = 10 + random.randint(settings.longest), 5 + random.randint(settings.widest)
            # Rounded first: what sin and cos give may differ in the last bit from machine to machine.
            to_x = min(max(int(x + round(length * math.sin(angle), 6)), 0), width)
            to_y = min(max(int(y + round(length * math.cos(angle), 6)), 0), height)
            yield (x, y), (to_x, to_y), brush
            x, y = to_x, to_y


def _boxes(settings, canvas, random):
    """Boxes (left, top, right, bottom)."""
    height, width = canvas
    for _ in range(random.randint(settings.count[0], settings.count[1] + 1)):
        wide, high = (random.randint(*settings.side) for _ in range(2))
        left = random.randint(settings.margin, width - settings.margin - wide + 1)
        top = random.randint(settings.margin, height - settings.margin - high + 1)
        yield left, top, left + wide, top + high


def _drawn(shapes, height, width, scale):
    """The hole (H, W): pixels whose center is in a box, or near enough to a segment.

    Sums and products alone, in float64, so that every machine draws the same.
    """
    hole = np.zeros((height, width), bool)
    y, x = ((np.arange(side) + 0.5) / scale - 0.5 for side in (height, width))  # of the canvas's pixels; its first is at 0
    for shape in shapes:
        if len(shape) == 4:
            left, top, right, bottom = shape
            rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
            hole |= rows[:, None] & columns
            continue
        (x0, y0), (x1, y1), brush = shape
        radius = (brush + 1) // 2 + 0.5  # OpenCV, with which LaMa draws, makes a line of 11 or 12 px 13 px wide
        top, bottom = np.searchsorted(y, [min(y0, y1) - radius, max(y0, y1) + radius])
        left, right = np.searchsorted(x, [min(x0, x1) - radius, max(x0, x1) + radius])
        dx, dy, px, py = x1 - x0, y1 - y0, x[left:right] - x0, y[top:bottom, None] - y0
        t = ((px * dx + py * dy) / max(dx * dx + dy * dy, 1)).clip(0, 1)
        hole[top:bottom, left:right] |= (px - t * dx) ** 2 + (py - t * dy) ** 2 <= radius * radius
    return hole
