"""How close a filled hole is to the truth, and how sure a handful of pictures makes us of it.

Each measure is a fraction over a whole set of pictures: a sum over all of them, divided by another. So for each picture it
gives two numbers, what the picture adds above the line and what it adds below: a tensor (B, 2). ``fraction`` turns them into
the measure of the set. ``interval`` says how far that might be off. ``gain`` and ``lead`` compare two ways to fill the same
pictures. A mean over pictures of their own fractions is another number: pictures with almost nothing below the line rule it.
"""

from collections.abc import Callable

import torch

Statistic = Callable[..., torch.Tensor]


def hole_l1(prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean absolute error inside the hole, over the batch: 0 is the truth, 1 is black for white.

    Shape: prediction and truth (B, C, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.

    Raises:
        ValueError: where the mask has no hole.
    """
    if not mask.any():
        raise ValueError("mask has no hole (no pixel is 1); expected one to measure in")
    return pooled_l1(prediction, truth, mask).item()


def pooled_l1(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference where the mask is 1, over the whole batch, as a tensor that passes gradients on.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> ().
    """
    return ((a - b).abs() * mask).sum() / (mask.sum() * a.shape[1])


def l1(filled: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Absolute error inside the hole: 0 is the truth.

    Shape: of every measure here: filled and truth (B, C, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole -> float64 (B, 2).
    """
    return _pair((filled - truth).abs() * mask, mask.expand_as(truth))


def ssim(filled: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Structural similarity inside the hole: 1 is the truth.

    Source: Wang et al. (2004), with their 11 px Gaussian window of sigma 1.5; computed by torchmetrics.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # in the extra [metrics]

    similarity = structural_similarity_index_measure(filled, truth, data_range=1.0, return_full_image=True)[1]
    return _pair(similarity * mask, mask.expand_as(truth))


def gradient_energy(filled: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Squared differences of neighbors that both lie in the hole, relative to the truth's: 1 is as sharp, 0 is flat."""
    return _differences(filled, truth, lambda axis: mask.unfold(axis, 2, 1).amin(-1), power=2)


def seam_contrast(filled: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Differences of neighbors across the hole's edge, relative to the truth's: above 1, the edge can be seen."""
    return _differences(filled, truth, lambda axis: mask.diff(dim=axis).abs(), power=1)


MEASURES = {"L1": l1, "SSIM": ssim, "gradient energy": gradient_energy, "seam contrast": seam_contrast}


def fraction(pairs: torch.Tensor) -> torch.Tensor:
    """The measure of a set of pictures: all that is above the line, divided by all that is below it.

    Shape: (..., N, 2) -> (...).
    """
    above, below = pairs.sum(-2).unbind(-1)
    return above / below


def interval(pairs: torch.Tensor | tuple[torch.Tensor, ...], statistic: Statistic = fraction) -> tuple[float, float, float]:
    """A measure and its 95% bootstrap interval: what the measure is for as many pictures, drawn from these with replacement.

    Few pictures do not show how different pictures can be: below about 30 of them the interval is too narrow.

    Args:
        pairs: (N, 2) of N pictures; or a tuple of such tensors, of the same pictures filled in several ways. These are then
            drawn together, which makes the interval a paired one.
        statistic: from the tensors of the drawn pictures, (..., N, 2) each, to (...).

    Returns:
        The value, the lower end and the upper end.

    Raises:
        ValueError: where there is no picture.

    Source: the percentile method of Efron, by ``scipy.stats.bootstrap``: 9,999 draws of seed 0.
    """
    from scipy.stats import bootstrap  # when it is needed: it takes half a second to import

    pairs = pairs if isinstance(pairs, tuple) else (pairs,)
    value, numbers = statistic(*pairs).item(), range(len(pairs[0]))
    if len(numbers) == 1:  # which scipy refuses: every draw is this picture
        return value, value, value

    def of_drawn(numbers, axis):
        return statistic(*(one[numbers] for one in pairs)).numpy()

    # In batches, because all draws of many pictures at once would take gigabytes.
    ends = bootstrap((numbers,), of_drawn, batch=100, method="percentile", rng=0).confidence_interval
    return value, float(ends.low), float(ends.high)


def gain(pairs: torch.Tensor, reference: torch.Tensor) -> tuple[float, float, float]:
    """By what share a measure is below that of another way to fill the same pictures, with its paired ``interval``."""
    return interval((pairs, reference), lambda a, b: 1 - fraction(a) / fraction(b))


def lead(pairs: torch.Tensor, reference: torch.Tensor) -> tuple[float, float, float]:
    """How much closer to 1 a measure is than that of another way to fill the same pictures, with its paired ``interval``."""
    return interval((pairs, reference), lambda a, b: (fraction(b) - 1).abs() - (fraction(a) - 1).abs())


def _differences(filled, truth, counted, power):
    """Differences of neighbors in the filled pictures above those in the truth; ``counted(axis)`` is 1 for those that count."""
    along_columns, along_rows = (
        [picture.diff(dim=axis).abs() ** power * counted(axis) for picture in (filled, truth)] for axis in (-2, -1)
    )
    return _pair(*along_columns) + _pair(*along_rows)


def _pair(above, below):
    """Both summed over everything but the batch, in float64, which not every device has."""
    return torch.stack([values.flatten(1).cpu().double().sum(1) for values in (above, below)], dim=1)
