"""How close a filled hole is to the truth, and how sure of it a handful of pictures makes us.

Each measure is a fraction over the whole set, a sum over all its pictures divided by another. So it gives for each picture a
pair (above, below) of the line: a tensor (B, 2). ``fraction`` is the measure of a set, ``interval`` says how far it might be
off, ``gain`` compares two ways to fill the same pictures. A mean of fractions would be ruled by the pictures that have
almost nothing below the line.
"""

import torch


def hole_l1(prediction, truth, mask):
    """Mean absolute error inside the hole, over the batch: 0 is the truth, 1 is black for white.

    Shape: prediction and truth (B, C, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.

    Returns:
        A float.

    Raises:
        ValueError: where the mask has no hole.
    """
    if not mask.any():
        raise ValueError("mask has no hole (no pixel is 1); expected one to measure in")
    return pooled_l1(prediction, truth, mask).item()


def pooled_l1(a, b, mask):
    """Mean absolute difference where the mask is 1, over the whole batch, as a tensor that passes gradients on.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> ().
    """
    return ((a - b).abs() * mask).sum() / (mask.sum() * a.shape[1])


def l1(filled, truth, mask):
    """Absolute error inside the hole: 0 is the truth.

    Shape of this and of every measure here: pictures (B, C, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole -> (B, 2) in float64.
    """
    return _pair((filled - truth).abs() * mask, mask.expand_as(truth))


def ssim(filled, truth, mask):
    """Structural similarity inside the hole, 1 is the truth: Wang et al. (2004), an 11 px Gaussian window of sigma 1.5."""
    from kornia.metrics import ssim  # with the notebooks' extras: the library does without it

    return _pair(ssim(filled, truth, window_size=11) * mask, mask.expand_as(truth))


def gradient_energy(filled, truth, mask):
    """Squared differences of neighbours that both lie in the hole, in relation to the truth's: 1 is as sharp, 0 is flat."""
    return _differences(filled, truth, lambda axis: mask.unfold(axis, 2, 1).amin(-1), power=2)


def seam_contrast(filled, truth, mask):
    """Differences of neighbours across the hole's edge, in relation to the truth's: above 1, the edge can be seen."""
    return _differences(filled, truth, lambda axis: mask.diff(dim=axis).abs(), power=1)


MEASURES = {"L1": l1, "SSIM": ssim, "gradient energy": gradient_energy, "seam contrast": seam_contrast}


def fraction(pairs):
    """The measure of a set of pictures: all that is above the line by all that is below it. (..., N, 2) -> (...)."""
    above, below = pairs.sum(-2).unbind(-1)
    return above / below


def interval(pairs, statistic=fraction, n_samples=2000, seed=0):
    """A measure and its 95% bootstrap interval: what it is for as many pictures, drawn from these with replacement.

    A set of few pictures does not show how different pictures can be: below about 30 such an interval is too narrow.

    Args:
        pairs: (N, 2) of N pictures; or (N, 2) tensors in a tuple, of the same pictures filled in several ways, which are
            then drawn together, as ``statistic`` takes them.
        statistic: from (..., N, 2) to (...).

    Returns:
        Three floats: the value, the lower and the upper end.
    """
    pairs = pairs if isinstance(pairs, tuple) else (pairs,)
    n = len(pairs[0])
    if n == 0:
        raise ValueError("pairs are of no picture; expected at least one")
    drawn = torch.randint(n, (n_samples, n), generator=torch.Generator().manual_seed(seed))
    at_once = max(1, 5_000_000 // n)  # samples, so that many pictures do not take gigabytes
    samples = torch.cat([statistic(*(p[some] for p in pairs)) for some in drawn.split(at_once)])
    low, high = torch.quantile(samples, torch.tensor([0.025, 0.975], dtype=samples.dtype)).tolist()
    return statistic(*pairs).item(), low, high


def gain(pairs, reference, **options):
    """By what share a measure is below that of another way to fill the same pictures, with its paired interval."""
    return interval((pairs, reference), lambda a, b: 1 - fraction(a) / fraction(b), **options)


def lead(pairs, reference, target=1.0, **options):
    """How much closer to a target a measure is than that of another way to fill the same pictures, with its paired interval."""
    return interval((pairs, reference), lambda a, b: (fraction(b) - target).abs() - (fraction(a) - target).abs(), **options)


def _differences(filled, truth, counted, power):
    """Differences of neighbours in the filled pictures by those in the truth; ``counted(axis)`` is 1 for those that count."""
    pairs = 0
    for axis in (-2, -1):
        above, below = (picture.diff(dim=axis).abs() ** power * counted(axis) for picture in (filled, truth))
        pairs = pairs + _pair(above, below)
    return pairs


def _total(values):
    """Sum over everything but the batch, in float64, which not every device has."""
    return values.flatten(1).cpu().double().sum(1)


def _pair(above, below):
    return torch.stack([_total(above), _total(below)], dim=1)
