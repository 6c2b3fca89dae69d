"""Random strokes as holes, quickly drawn: for lessons, training and tests. ``brushes`` has the holes of the paper's tables."""

import math
from dataclasses import dataclass

import torch

from refine_lib.checks import LARGEST_SEED, LARGEST_SIDE, as_integer, as_size, check_choice
from refine_lib.device import plainly


@dataclass(frozen=True)
class StrokeKind:
    """How holes of one kind are drawn. Lengths are shares of the picture's side."""

    n_chains: int  # of strokes to a mask
    width: tuple[float, float]  # smallest and largest of a stroke
    share: tuple[float, float]  # smallest and largest share of the picture that the hole covers; others are drawn again


STROKES = {
    "thin": StrokeKind(n_chains=6, width=(0.02, 0.05), share=(0.03, 0.35)),
    "medium": StrokeKind(n_chains=3, width=(0.06, 0.12), share=(0.05, 0.45)),
    "thick": StrokeKind(n_chains=1, width=(0.14, 0.34), share=(0.05, 0.45)),
}
N_POINTS = 5  # of a chain


@plainly
def stroke_masks(
    size: int | tuple[int, int], batch: int = 1, seed: int = 0, kind: str = "thick", device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Draws brush strokes as holes: chains of one to four segments with round ends.

    The strokes live on the unit square, so that the same seed gives the same hole at every size.

    Args:
        size: (H, W), or one number for a square, in pixels.
        batch: number of masks.
        seed: of the random numbers, which are drawn on the CPU: the same masks on every device.
        kind: of ``STROKES``: ``"thin"`` (lines), ``"medium"`` or ``"thick"`` (what a person or a thing would leave).
        device: where the masks are made.

    Returns:
        float32 masks (B, 1, H, W), 1 = hole.

    Raises:
        ValueError: where an argument is not as above.

    Example:
        >>> mask = stroke_masks(64, batch=2, seed=3)
        >>> mask.shape, mask.unique().tolist()
        (torch.Size([2, 1, 64, 64]), [0.0, 1.0])
    """
    check_choice(kind, "kind", STROKES)
    (height, width), batch = as_size(size), as_integer(batch, "batch", "masks", least=1, most=LARGEST_SIDE)
    style = STROKES[kind]
    generator = torch.Generator().manual_seed(as_integer(seed, "seed", "", most=LARGEST_SEED))
    points, widths = (torch.empty(0, *shape, dtype=torch.float32) for shape in ((style.n_chains, N_POINTS, 2), ()))
    while len(points) < batch:
        drawn, drawn_widths = _random_strokes(batch, style, generator)
        cover = _rasterize(drawn, drawn_widths, 32, 32).mean(dim=(1, 2, 3))  # at one size, to accept the same at all sizes
        fits = (cover >= style.share[0]) & (cover <= style.share[1])
        points, widths = torch.cat([points, drawn[fits]]), torch.cat([widths, drawn_widths[fits]])
    return _rasterize(points[:batch].to(device), widths[:batch].to(device), height, width)


def _random_strokes(batch, style, generator):
    """Points (B, n_chains, N_POINTS, 2) of chains on the unit square and a width for each mask (B,); a chain may stop early."""

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float32)

    shape = (batch, style.n_chains)
    angle = uniform(0, 2 * math.pi, *shape, 1) + uniform(-1.2, 1.2, *shape, N_POINTS - 1).cumsum(2)
    length = uniform(0.1, 0.45, *shape, N_POINTS - 1)
    n_segments = torch.randint(1, N_POINTS, (*shape, 1), generator=generator)
    length = length * (torch.arange(N_POINTS - 1) < n_segments)  # the rest of the chain stays where it is
    moves = length[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    start = uniform(0.15, 0.85, *shape, 1, 2)
    points = torch.cat([start, start + moves.cumsum(2)], dim=2).clamp(0, 1)
    return points, uniform(*style.width, batch)


def _rasterize(points, stroke_width, height, width):
    """Masks (B, 1, H, W): the pixels whose center is within half a stroke's width of a segment of a chain."""
    y = ((torch.arange(height, dtype=points.dtype, device=points.device) + 0.5) / height)[:, None]
    x = ((torch.arange(width, dtype=points.dtype, device=points.device) + 0.5) / width)[None, :]
    nearest = points.new_full((len(points), height, width), math.inf)  # squared distance
    starts, ends = points[:, :, :-1].flatten(1, 2), points[:, :, 1:].flatten(1, 2)
    for start, end in zip(starts.unbind(1), ends.unbind(1), strict=True):
        x0, y0, dx, dy = (t[:, None, None] for t in (*start.T, *(end - start).T))
        t = (((x - x0) * dx + (y - y0) * dy) / (dx**2 + dy**2).clamp(min=1e-12)).clamp(0, 1)
        nearest = torch.minimum(nearest, (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)
    return (nearest < (stroke_width[:, None, None] / 2) ** 2).float()[:, None]
