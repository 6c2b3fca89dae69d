"""How long a run will take, by two small ones."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from refine_lib.networks.split import SplitNetwork
from refine_lib.pyramid import resize
from refine_lib.refine import multiscale_inpaint

SIDES_PX = (32, 32, 64, 128, 256)  # short sides of the pictures that are measured; the first one warms up
ENOUGH = 0.2  # seconds of a measured run, after which no larger one is made
N_ITERS = 3

Line = tuple[float, float]  # seconds for a picture, and for each of its pixels


@dataclass(frozen=True)
class Pace:
    """What a run takes on a device.

    Attributes:
        run: seconds before the first level and behind the last.
        level, update: what the first pass of a level takes, and an update of z with the pass after it.
    """

    run: float
    level: Line
    update: Line

    def seconds(self, sizes: Sequence[Sequence[int]], n_iters: int) -> list[float]:
        """The seconds that each level takes, smallest first; of the first what comes before it, too."""
        at = lambda line, height, width: line[0] + line[1] * height * width  # noqa: E731
        first, *others = (at(self.level, *size) for size in sizes)
        later = zip(others, sizes[1:], strict=True)
        return [self.run + first, *(start + n_iters * at(self.update, *size) for start, size in later)]


def measure_pace(image: torch.Tensor, mask: torch.Tensor, model: SplitNetwork, loss: str = "paper") -> Pace:
    """Runs the method on smaller copies of a picture, with a hole that reaches as far, and fits a line through the times.

    Args:
        image, mask, model, loss: as in ``multiscale_inpaint``.
    """
    found: list[tuple[int, list[float]]] = []
    for side in filter(lambda side: side <= max(64, *image.shape[-2:]), SIDES_PX):  # none is larger than the picture
        size = [max(round(side * length / min(image.shape[-2:])), side) for length in image.shape[-2:]]
        found.append((size[0] * size[1], _times(resize(image, size), _box(mask, size), model, side / 2, loss)))
        if len(found) > 2 and sum(found[-1][1]) > ENOUGH:
            break
    (small, first), (large, second) = found[-2:]
    level, update = (_line(small, first[i], large, second[i]) for i in (1, 2))
    return Pace(min(first[0], second[0]), level, update)


def _times(image, mask, model, smallest_scale, loss):
    """What a run takes before its first level and behind its last, the first pass of its second level, and an update there."""
    times = [time.perf_counter()]

    def take(step):
        _ = step.loss  # on a GPU the time until it is done
        times.append(
            time.perf_counter() - step.seconds * (len(times) == 1)
        )  # the first step's end less what it took: its begin
        if len(times) == 2:
            times.append(time.perf_counter())

    with warnings.catch_warnings(action="ignore"):
        multiscale_inpaint(image, mask, model, smallest_scale, N_ITERS, 1e-6, 0, loss, take, progress=False)
    end = time.perf_counter()
    taken = [b - a for a, b in zip(times, times[1:], strict=False)]
    updates = sorted(taken[3:])
    return [taken[0] + end - times[-1], taken[2], updates[len(updates) // 2]]


def _box(mask, size):
    """A hole as far as that of a mask reaches, at another size: where it ends decides what is computed."""
    hole = torch.zeros(mask.shape[0], 1, *size, dtype=mask.dtype, device=mask.device)
    spans = []
    for axis, length in ((2, size[0]), (3, size[1])):
        there = mask.amax(dim=tuple({0, 1, 2, 3} - {axis})).nonzero()
        share = (
            (0.25, 0.75) if not len(there) else (there[0].item() / mask.shape[axis], (there[-1].item() + 1) / mask.shape[axis])
        )
        start = min(int(share[0] * length), length - 8)
        spans.append(slice(start, max(round(share[1] * length), start + 8)))
    hole[:, :, spans[0], spans[1]] = 1
    hole[..., :2] = 0  # something is known
    return hole


def _line(small, first, large, second):
    """The line through two points; one that begins at 0 where that through both would begin below."""
    slope = max(second - first, 0) / (large - small)
    start = second - slope * large
    return (start, slope) if start >= 0 else (0.0, second / large)
