"""Windows around holes: the parts of a photo that are computed where that takes less than half of the whole's work or memory
does not hold the whole."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.ndimage

from refine_lib.checks import SMALLEST_SIDE
from refine_lib.fast.memory import Budget
from refine_lib.pyramid import level_sizes
from refine_lib.result import work_of

WINDOWS = ("auto", "always", "never")
CONTEXT_SHARE = 3 / 4  # of smallest_scale: what a window shows around its hole where memory allows; see ``workshop.context``
LEAST_CONTEXT_SHARE = 1 / 4  # of smallest_scale: what a window shows around its hole at the least
WORTH_WINDOWS = 1 / 2  # of the whole photo's work: what windows may take where memory holds the whole


@dataclass(frozen=True)
class Window:
    """A part of a photo, in pixels, and the number of the holes that are filled in it."""

    top: int
    bottom: int
    left: int
    right: int
    number: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def part(self) -> tuple[slice, slice]:
        """The index of an array (H, W, ...) that gives this part of it."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: "Window") -> bool:
        return self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right

    def union(self, other: "Window") -> "Window":
        """The smallest window that holds both."""
        top, bottom = min(self.top, other.top), max(self.bottom, other.bottom)
        return Window(top, bottom, min(self.left, other.left), max(self.right, other.right), self.number)


def plan_windows(
    hole: np.ndarray, windows: str, context: float, smallest_scale: float, budget: Budget, n_iters: int
) -> tuple[list[Window], np.ndarray]:
    """What is to be computed to fill every hole: the whole photo, or windows.

    Windows that overlap are made one, where that is no more work and memory holds it.

    Args:
        hole: (H, W), bool. Pixels that touch, even at a corner only, are one hole.
        windows, context, smallest_scale, n_iters: as in ``refine_lib.photos.inpaint.inpaint_photo``.
        budget: of memory.

    Returns:
        A list of ``Window``, and an array (H, W). At each pixel of a hole the array has the number of the window that fills it,
        elsewhere 0. A hole lies wholly in its window.

    Raises:
        MemoryError: where the budget does not hold the photo, or a window with the least context.
    """
    height, width = hole.shape
    fits, whole = budget.holds(height, width), ([Window(0, height, 0, width, 1)], hole.astype(np.int32))
    if windows == "never" and not fits:
        raise MemoryError(
            f"the photo, {width} px wide and {height} px high, {budget.compare(height, width)}; expected more, or windows"
            " around the holes ('auto'): the photo is never made smaller"
        )
    if windows == "never":
        return whole

    def work(*parts: Window) -> int:
        return sum(sum(work_of(level_sizes(*part.size, smallest_scale), n_iters)) for part in parts)

    def is_better_joined(a, b):
        both = a.union(b)
        return budget.holds(*both.size) and work(both) <= work(a, b)

    rows, columns = (_ends(hole.any(axis)) for axis in (1, 0))  # a large photo is known outside of these
    holes, n = cast(tuple[np.ndarray, int], scipy.ndimage.label(hole[rows, columns], np.ones((3, 3))))
    planned, joined = [], list(range(n + 1))  # joined: the window of which each one became a part
    for number, (tall, wide) in enumerate(scipy.ndimage.find_objects(holes), start=1):
        box = _moved(tall, rows.start), _moved(wide, columns.start)
        window = _around(box, number, context, smallest_scale, hole.shape, budget)
        while other := next((w for w in planned if w.overlaps(window) and is_better_joined(w, window)), None):
            planned.remove(other)
            window = window.union(other)
            joined[other.number] = number
        planned.append(window)
    if windows == "auto" and fits and work(*planned) >= WORTH_WINDOWS * work(*whole[0]):
        return whole
    for number in reversed(range(n + 1)):  # a window becomes part of a later one
        joined[number] = joined[joined[number]]
    filled_by = np.zeros(hole.shape, np.int32)
    filled_by[rows, columns] = np.array(joined, np.int32)[holes]
    return planned, filled_by


def _ends(is_there):
    """From the first True of a row of bools to the last."""
    places = np.flatnonzero(is_there)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1)  # SciPy wants a pixel


def _moved(span, by):
    return slice(span.start + by, span.stop + by)


def _around(box, number, context, smallest_scale, shape, budget):
    """The window around a hole with as much context as is wanted, or else as memory allows."""
    rows, columns = box
    usual = CONTEXT_SHARE * smallest_scale
    wanted = max(usual, context * max(rows.stop - rows.start, columns.stop - columns.start))
    wanted = round(min(wanted, max(shape)))  # more would show nothing more
    least = max(SMALLEST_SIDE, round(LEAST_CONTEXT_SHARE * smallest_scale))
    for margin, enough in ((wanted, usual), *((margin, 0) for margin in (*range(wanted, least, -8), least))):
        (top, bottom), (left, right) = (_span(rows, shape[0], margin, enough), _span(columns, shape[1], margin, enough))
        window = Window(top, bottom, left, right, number)
        if budget.holds(*window.size):
            return window
    height, width = window.size
    raise MemoryError(
        f"the hole from row {rows.start} and column {columns.start} on, with {least} px around it {width} px wide and"
        f" {height} px high, {budget.compare(height, width)}; expected more, another device, or a hole filled part by part"
    )


def _span(hole, length, margin, enough):
    """From where to where a window goes along a side of the photo. At the border it shows more of the other side instead.

    Without that the window in a corner would be so small that it has one level, and nothing is refined.
    """
    start, stop = max(hole.start - margin, 0), min(hole.stop + margin, length)
    missing = max(hole.stop - hole.start + round(2 * enough) - (stop - start), 0)
    return max(start - missing, 0), min(stop + missing, length)
