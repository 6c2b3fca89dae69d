"""Holes: the erosion that keeps the loss away from a hole's edge, and pasting what was filled into the picture."""

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

    # A disc is a stack of rows. How many known pixels a row of it sees is a difference of two running sums, whatever its
    # width, and rows as wide differ by a shift. That holds a few copies of the mask at a time, where an unfolded
    # neighbourhood would hold diameter**2 of them, and costs as the radius, where a maximum over each row costs as its square.
    height, width = mask.shape[-2:]
    known = F.pad((mask == 0).int(), (radius + 1, radius))
    running = known.cumsum(-1, dtype=torch.int32)
    reached = torch.zeros_like(mask, dtype=torch.bool)
    for dy in range(min(radius, height - 1) + 1):
        half_width = round(math.sqrt(radius**2 - dy**2))
        left, right = radius - half_width, radius + half_width + 1
        sees = running[..., right : right + width] > running[..., left : left + width]
        reached[..., dy:, :] |= sees[..., : height - dy, :]
        reached[..., : height - dy, :] |= sees[..., dy:, :]
    return (~reached).to(mask.dtype)


def paste(prediction, image, mask):
    """The prediction in the hole, the image everywhere else, bit for bit.

    Shape: prediction and image (B, C, H, W), mask (B, 1, H, W), 1 = hole -> (B, C, H, W).
    """
    return torch.where(mask > 0, prediction, image)
