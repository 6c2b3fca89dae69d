"""Holes: the erosion that keeps the loss away from a hole's edge, and pasting what was filled into the picture."""

import math

import torch
import torch.nn.functional as F

from refine_lib.checks import as_integer, check_mask
from refine_lib.device import plainly


@plainly
def erode(mask: torch.Tensor, diameter: int) -> torch.Tensor:
    """Shrinks the holes of a mask with a circular kernel.

    The kernel is the disc of OpenCV's ``MORPH_ELLIPSE``. Row ``dy`` of it reaches ``round(sqrt(r**2 - dy**2))`` pixels to
    each side, with ``r = (diameter - 1) // 2``. A kernel has a center pixel, so an even diameter acts as the odd one below it.
    What lies beyond the picture's border counts as hole: a hole is not eroded from there.

    Args:
        mask: 1 = hole, 0 = known.
        diameter: of the kernel, in pixels; 0 is the identity.

    Shape: (B, 1, H, W) -> (B, 1, H, W).

    Raises:
        TypeError, ValueError: where an argument is not as above.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 1, 7, 7)
        >>> mask[..., 1:6, 1:6] = 1
        >>> int(mask.sum()), int(erode(mask, 3).sum())
        (25, 9)

    Source: the mask in the loss of Algorithm 1, ``predict_and_refine``; there by 15 px, at the size of the smaller level.
    """
    check_mask(mask)
    height, width = mask.shape[-2:]
    radius = max(as_integer(diameter, "diameter", "pixels, of the kernel") - 1, 0) // 2
    radius = min(radius, height + width)  # which sees all of the picture from everywhere
    if radius == 0:
        return mask

    # A disc is a stack of rows. How many known pixels a row of it sees is a difference of two running sums, whatever its
    # width. This holds a few copies of the mask at a time; an unfolded neighborhood would hold diameter**2 of them. It costs
    # as much as the radius; a maximum over each row would cost as much as the radius squared.
    reach = min(radius, width)
    known = F.pad((mask == 0).int(), (reach + 1, reach))
    running = known.cumsum(-1, dtype=torch.int32)
    reached = torch.zeros_like(mask, dtype=torch.bool)
    for dy in range(min(radius, height - 1) + 1):
        half_width = min(round(math.sqrt(radius**2 - dy**2)), reach)
        left, right = reach - half_width, reach + half_width + 1
        sees = running[..., right : right + width] > running[..., left : left + width]
        reached[..., dy:, :] |= sees[..., : height - dy, :]
        reached[..., : height - dy, :] |= sees[..., dy:, :]
    return (~reached).to(mask.dtype)


def paste(prediction: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The prediction in the hole, the image everywhere else, bit for bit.

    The prediction may have a network's padding at the right and the bottom, which is left out.

    Shape: prediction (B, C, H + down, W + right), image (B, C, H, W), mask (B, 1, H, W), 1 = hole -> (B, C, H, W).
    """
    height, width = image.shape[-2:]
    return torch.where(mask > 0, prediction[..., :height, :width], image)
