"""The image pyramid: a picture and its hole at every size, from the network's training size up to the full size."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from refine_lib.checks import check_can_downscale, check_image_and_mask, check_smallest_scale
from refine_lib.device import plainly


@plainly
def downscale(image: torch.Tensor) -> torch.Tensor:
    """Halves an image: a Gaussian filter against aliasing (5x5, sigma 1), then bilinear interpolation.

    Convention: the border is reflected, sizes are floored, ``align_corners=False``. It passes gradients on.

    Shape: (B, C, H, W) -> (B, C, H // 2, W // 2), H and W at least 3, of a floating dtype.

    Raises:
        TypeError, ValueError: where image is not as above.

    Example:
        >>> import torch
        >>> downscale(torch.rand(1, 3, 65, 64)).shape
        torch.Size([1, 3, 32, 32])

    Source: Algorithm 1, in ``build_pyramid`` and in the loss; the filter's size and sigma are those of the authors' code.
    """
    check_can_downscale(image)
    return resize(_blur(image), (image.shape[-2] // 2, image.shape[-1] // 2))


@plainly
def downscale_mask(mask: torch.Tensor) -> torch.Tensor:
    """Halves a mask so that a hole never shrinks: a pixel that sees any of the hole through the filter is hole.

    Shape: (B, 1, H, W) -> (B, 1, H // 2, W // 2), 1 = hole.

    Source: Algorithm 1, in ``build_pyramid``; the threshold 1e-8 is that of the authors' code.
    """
    return (downscale(mask) > 1e-8).to(mask.dtype)


def whole_hole(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Brings a mask to a smaller size, where a pixel is hole only if all that it covers is hole.

    It is bilinear interpolation, unfiltered. This is the rule for the loss; ``downscale_mask`` is the rule for the pyramid.

    Shape: (B, 1, H, W) -> (B, 1, *size).
    """
    return (resize(mask, size) > 1 - 1e-6).to(mask.dtype)  # not == 1: in float32 the weights need not sum to 1 exactly


def resize(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear interpolation to a size, ``align_corners=False``, without a filter.

    Shape: (B, C, H, W) -> (B, C, *size).
    """
    return F.interpolate(image, size=tuple(size), mode="bilinear", align_corners=False)


def level_of_guide(guide: Sequence[int], sizes: Sequence[Sequence[int]]) -> int:
    """The largest of a pyramid's levels that is not larger than a guide, by its number; 0 where all are larger.

    Args:
        guide, sizes: (H, W) of the guide, and of each level. A guide's sides are rounded, so one of the two is enough.
    """
    return max((n for n, size in enumerate(sizes) if size[0] <= guide[0] or size[1] <= guide[1]), default=0)


def fit_guide(guide: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A guide at the size of a level: with bicubic interpolation, filtered against aliasing. In its own size it stays as it is.

    Shape: guide (B, 3, h, w), image (B, 3, H, W), mask (B, 1, H, W) -> (B, 3, *size), on the guide's device.
    """
    if guide.shape[-2:] == tuple(size):
        return guide
    return _filtered(with_known(guide, image, mask), size, "bicubic").clamp(0, 1)


def with_known(guide: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A guide with the known picture outside the hole, so that nothing else comes in at its rim when it is resized.

    Shape: guide (B, 3, h, w), image (B, 3, H, W), mask (B, 1, H, W) -> (B, 3, h, w).
    """
    known, hole = (_filtered(t, guide.shape[-2:], "bilinear") for t in (image, mask))
    return torch.where(hole.to(guide) > 1e-8, guide, known.to(guide))


def _filtered(image, size, mode):
    """Interpolation with a filter. Not every device has one, so it runs on the CPU."""
    return F.interpolate(image.cpu(), size=tuple(size), mode=mode, align_corners=False, antialias=True).to(image)


def downscale_matrix(n: int, part: slice, like: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """``downscale`` along one axis, as a matrix: ``rows @ image @ columns.T`` is ``downscale(image)``.

    Args:
        n: pixels along the axis, H or W.
        part: a slice of the n // 2 pixels after it: only these are made.
        like: a tensor of the wanted dtype and device.

    Returns:
        The matrix (pixels of the part, pixels that they see), and the slice of the n pixels that they see.
    """
    place = torch.arange(part.start, part.stop, dtype=torch.float64, device="cpu")
    place = ((place + 0.5) * n / (n // 2) - 0.5).clamp(0, n - 1)  # of the interpolation, align_corners=False
    offsets, weights = _gaussian(like.new_empty(0, dtype=torch.float64, device="cpu"))
    matrix = torch.zeros(len(place), n, dtype=torch.float64, device="cpu")
    for neighbor, share in ((place.floor(), 1 - place.frac()), (place.floor() + 1, place.frac())):
        seen = neighbor.clamp(max=n - 1)[:, None].long() + offsets.long()
        seen = (n - 1) - ((n - 1) - seen.abs()).abs()  # reflected at both ends
        matrix.scatter_add_(1, seen, share[:, None] * weights)
    (seen,) = matrix.any(dim=0).nonzero(as_tuple=True)
    seen = slice(int(seen[0]), int(seen[-1]) + 1)
    return matrix[:, seen].to(like), seen


def _gaussian(like, size=5, sigma=1.0):
    """The filter's offsets in pixels and its weights, (size,)."""
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return offsets, weights / weights.sum()


def _blur(image):
    """The filter along rows, then along columns, as sums of shifted pictures.

    A convolution of so few channels takes several times the memory and the time on a CPU.
    """
    _, weights = _gaussian(image.new_empty(0, device="cpu"))
    seen = F.pad(image, [len(weights) // 2] * 4, mode="reflect")
    for dim in (3, 2):
        shifted = [seen.narrow(dim, i, image.shape[dim]) for i in range(len(weights))]
        first, *others = weights.tolist()
        seen = shifted[0] * first
        for part, weight in zip(shifted[1:], others, strict=True):
            seen.add_(part, alpha=weight)
    return seen


@dataclass(frozen=True, repr=False, eq=False)
class Level:
    """One size of the picture: ``image`` (B, 3, H, W) in [0, 1] and ``mask`` (B, 1, H, W), 1 = hole."""

    image: torch.Tensor
    mask: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.image.shape[-2:]
        return height, width

    def __repr__(self):
        return f"{type(self).__name__}({self._in_words()})"

    def _in_words(self):
        height, width = self.size
        return f"{height} x {width} px, {self.mask.mean().item():.1%} hole"


class Pyramid(Sequence[Level]):
    """The levels of a picture, smallest first; ``pyramid[-1]`` is the picture itself."""

    def __init__(self, levels: Iterable[Level]):
        self._levels = tuple(levels)

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._levels[index]

    def __len__(self) -> int:
        return len(self._levels)

    def __repr__(self):
        # counted as losses and plots count them
        lines = [f"  level {number}: {level._in_words()}" for number, level in enumerate(self, start=1)]
        return "\n".join([f"Pyramid of {len(self)} level{'s' if len(self) > 1 else ''}, smallest first", *lines])


def number_of_levels(height: int, width: int, smallest_scale: float = 512) -> int:
    """1 + round(log2(short side / smallest_scale)), and at least 1."""
    return max(1, 1 + round(math.log2(min(height, width) / smallest_scale)))


def level_sizes(height: int, width: int, smallest_scale: float = 512) -> list[tuple[int, int]]:
    """(H, W) of each level of the pyramid of a picture, smallest first, without building it."""
    halvings = reversed(range(number_of_levels(height, width, smallest_scale)))
    return [(height >> n, width >> n) for n in halvings]


@plainly
def build_pyramid(image: torch.Tensor, mask: torch.Tensor, smallest_scale: float = 512) -> Pyramid:
    """Halves a picture and its mask until the short side is about the network's training size.

    Args:
        image: values in [0, 1].
        mask: 1 = hole, 0 = known.
        smallest_scale: the short side to come close to, in pixels: the size that the network was trained at.

    Shape: image (B, 3, H, W), mask (B, 1, H, W); level i counts from the smallest, each about twice the one before.

    Returns:
        A ``Pyramid``: a sequence of ``Level``, smallest first, each with ``image`` and ``mask``.

    Raises:
        TypeError, ValueError: where an argument is not as above.

    Example:
        >>> from refine_lib import random_scenes, stroke_masks
        >>> build_pyramid(random_scenes(256, seed=1), stroke_masks(256, seed=1), smallest_scale=64)
        Pyramid of 3 levels, smallest first
          level 1: 64 x 64 px, 23.2% hole
          level 2: 128 x 128 px, 18.6% hole
          level 3: 256 x 256 px, 16.5% hole

    Source: Algorithm 1, ``build_pyramid``; the number of levels is the authors' code's, without its limit of 3.
    """
    check_image_and_mask(image, mask)
    smallest_scale = check_smallest_scale(smallest_scale)
    levels = [Level(image, mask)]
    for _ in range(number_of_levels(*levels[0].size, smallest_scale) - 1):
        levels.append(Level(downscale(levels[-1].image), downscale_mask(levels[-1].mask)))
    return Pyramid(reversed(levels))
