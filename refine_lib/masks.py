"""Holes: masks to try things on, and the erosion that keeps the loss away from a hole's edge."""

import math

import torch
import torch.nn.functional as F

from refine_lib.checks import check_diameter, check_mask


def erode(mask, diameter):
    """Shrinks the holes of a mask with a circular kernel.

    The kernel is the disc of OpenCV's ``MORPH_ELLIPSE``: row ``dy`` reaches ``round(sqrt(r**2 - dy**2))`` pixels to each
    side, with ``r = (diameter - 1) // 2``. So an even diameter acts as the odd one below it: a kernel has a centre pixel.
    What lies beyond the picture's border counts as hole: a hole is not eroded from there.

    Args:
        mask: 1 = hole, 0 = known.
        diameter: of the kernel, in pixels; 0 is the identity.

    Shape: (B, 1, H, W) -> (B, 1, H, W).

    Raises:
        TypeError, ValueError: where an argument is not as above.

    Source: the mask in the loss of Algorithm 1, ``predict_and_refine``; there by 15 px, at the size of the smaller level.
    """
    check_mask(mask)
    check_diameter(diameter)
    radius = max(diameter - 1, 0) // 2
    if radius == 0:
        return mask

    # A disc is a stack of rows: the maximum over each row's width, shifted to the row's place. That holds a few
    # copies of the mask at a time, where an unfolded neighbourhood would hold diameter**2 of them.
    known = 1 - mask
    height = mask.shape[-2]
    rows = F.pad(known, (0, 0, radius, radius))
    reached = known
    for dy in range(-radius, radius + 1):
        half_width = round(math.sqrt(radius**2 - dy**2))
        row = rows[..., radius + dy : radius + dy + height, :]
        reached = torch.maximum(reached, F.max_pool2d(row, (1, 2 * half_width + 1), stride=1, padding=(0, half_width)))
    return 1 - reached


def paste(prediction, image, mask):
    """The prediction in the hole, the image everywhere else, bit for bit.

    Shape: prediction and image (B, C, H, W), mask (B, 1, H, W), 1 = hole -> (B, C, H, W).
    """
    return torch.where(mask > 0, prediction, image)


def stroke_masks(size, batch=1, seed=0, share=(0.05, 0.45), device="cpu"):
    """Draws thick brush strokes as holes: chains of one to four segments with round ends.

    The strokes live on the unit square, so that the same seed gives the same hole at every size.

    Args:
        size: (H, W), or one number for a square, in pixels.
        batch: number of masks.
        seed: of the random numbers, which are drawn on the CPU: the same masks on every device.
        share: smallest and largest share of the picture that the hole covers; others are drawn again.
        device: where the masks are made.

    Returns:
        float32 masks (B, 1, H, W), 1 = hole.

    Raises:
        ValueError: where the share is one that strokes of this kind hardly ever cover.
    """
    height, width = (size, size) if isinstance(size, int) else size
    low, high = share
    generator = torch.Generator().manual_seed(seed)
    points, widths = torch.empty(0, N_POINTS, 2, device=device), torch.empty(0, device=device)
    for _ in range(100):
        drawn, drawn_widths = (t.to(device) for t in _random_strokes(batch, generator))
        cover = _rasterise(drawn, drawn_widths, 64, 64).mean(dim=(1, 2, 3))  # at one size, to accept the same at all sizes
        fits = (cover >= low) & (cover <= high)
        points, widths = torch.cat([points, drawn[fits]]), torch.cat([widths, drawn_widths[fits]])
        if len(points) >= batch:
            return _rasterise(points[:batch], widths[:batch], height, width)
    raise ValueError(f"share is {share!r}; expected (low, high) in [0, 1] that thick strokes can cover, as (0.05, 0.45)")


N_POINTS = 5  # of a chain


def _random_strokes(batch, generator):
    """Points (B, N_POINTS, 2) of a chain on the unit square and its width (B,); a chain may stop early."""

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator)

    angle = uniform(0, 2 * math.pi, batch, 1) + uniform(-1.2, 1.2, batch, N_POINTS - 1).cumsum(1)
    length = uniform(0.1, 0.45, batch, N_POINTS - 1)
    n_segments = torch.randint(1, N_POINTS, (batch, 1), generator=generator)
    length = length * (torch.arange(N_POINTS - 1) < n_segments)  # the rest of the chain stays where it is
    moves = length[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    start = uniform(0.15, 0.85, batch, 1, 2)
    points = torch.cat([start, start + moves.cumsum(1)], dim=1).clamp(0, 1)
    return points, uniform(0.14, 0.34, batch)


def _rasterise(points, stroke_width, height, width):
    """Masks (B, 1, H, W): the pixels whose centre is within half a stroke's width of a segment of the chain."""
    y = (torch.arange(height, device=points.device) + 0.5) / height
    x = (torch.arange(width, device=points.device) + 0.5) / width
    pixels = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flip(-1)[None]  # (1, H, W, 2) as (x, y)
    nearest = torch.full((len(points), height, width), math.inf, device=points.device)
    for start, end in zip(points.unbind(1)[:-1], points.unbind(1)[1:], strict=True):
        start, end = start[:, None, None], end[:, None, None]
        along, offset = end - start, pixels - start
        t = ((offset * along).sum(-1) / (along**2).sum(-1).clamp(min=1e-12)).clamp(0, 1)
        nearest = torch.minimum(nearest, (offset - t[..., None] * along).norm(dim=-1))
    return (nearest < stroke_width[:, None, None] / 2).float()[:, None]
