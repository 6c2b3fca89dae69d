"""The loss of Algorithm 1: how far the prediction, downscaled, is from the level below, inside the eroded hole."""

import torch
import torch.nn.functional as F

from refine_lib.pyramid import downscale_matrix

Sides = tuple[int, int, int, int]  # columns at the left and at the right, rows at the top and at the bottom, in pixels


class Agreement:
    """The loss at one level. All that stays the same from iteration to iteration is made once.

    Called with a prediction (B, 3, H, W) it gives ``masked_l1(downscale(prediction), inpainted_low_res, eroded)``, (B,). It
    looks only at the part of the prediction that the eroded hole sees, and downscales with two matrices, one for rows, one for
    columns. The prediction may have the network's padding at the right and the bottom.

    Args:
        inpainted_low_res: (B, 3, H // 2, W // 2).
        eroded: (B, 1, H // 2, W // 2), 1 where the two should agree.
        size: (H, W).
        known: the image (B, 3, H, W) and the mask (B, 1, H, W), for the authors' code's term ``known_l1`` beside it.

    Attributes:
        has_target: (B,) bool, the pictures of the batch with a place where they should agree.
        possible: whether there is any.
        moves_z: whether there is anything to optimize: a place where the two should agree, or known pixels.

    Source: the loss of Algorithm 1, ``predict_and_refine``.
    """

    def __init__(
        self,
        inpainted_low_res: torch.Tensor,
        eroded: torch.Tensor,
        size: tuple[int, int],
        known: tuple[torch.Tensor, torch.Tensor] | None = None,
    ):
        self.known = known
        self.has_target = eroded.flatten(1).any(dim=1)
        self.n_targets = self.has_target.sum()
        self.possible = bool(self.n_targets)
        self.moves_z = self.possible or known is not None
        if not self.possible:
            return
        rows, columns = bounding_box(eroded)
        self.target = inpainted_low_res[..., rows, columns]
        count = eroded.sum(dim=(1, 2, 3), keepdim=True) * self.target.shape[1]
        self.weight = eroded[..., rows, columns] / count.clamp(min=1)
        self.by_rows, self.rows = downscale_matrix(size[0], rows, like=inpainted_low_res)
        by_columns, self.columns = downscale_matrix(size[1], columns, like=inpainted_low_res)
        self.by_columns = by_columns.mT

    def __call__(self, prediction: torch.Tensor) -> torch.Tensor:
        losses = prediction.new_zeros(len(prediction))
        if self.possible:
            small = self.by_rows @ cropped(prediction, beside(self.rows, self.columns, prediction)) @ self.by_columns
            losses = ((small - self.target).abs() * self.weight).sum(dim=(1, 2, 3))
        return losses if self.known is None else losses + known_l1(prediction, *self.known)

    def mean(self, losses: torch.Tensor) -> torch.Tensor | None:
        """The losses (B,) of those pictures that have a place to agree, averaged: a tensor of one number; None without any."""
        return None if not self.possible else (losses.detach() * self.has_target).sum() / self.n_targets


def beside(rows: slice, columns: slice, x: torch.Tensor) -> Sides:
    """What lies beside a part of x (..., H, W)."""
    height, width = x.shape[-2:]
    return columns.start, max(width - columns.stop, 0), rows.start, max(height - rows.stop, 0)


def cropped(x: torch.Tensor, sides: Sides) -> torch.Tensor:
    """A picture, or featuremap, without what is beside a part of it.

    This is one step, and its gradient is one too. A slice for each side would clear a whole picture each time.
    """
    return F.pad(x, [-n for n in sides])


def bounding_box(mask: torch.Tensor) -> tuple[slice, slice]:
    """The rows and the columns that hold a mask's ones; for a batch those of all its masks together."""
    found = (mask > 0).flatten(0, 1).any(dim=0)
    rows, columns = (lines.nonzero().flatten().tolist() for lines in (found.any(dim=1), found.any(dim=0)))
    if not rows:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def masked_l1(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference where the mask is 1, for each picture of the batch; 0 where it is 1 nowhere.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> (B,).

    Source: the loss of Algorithm 1, ``predict_and_refine``.
    """
    count = a.shape[1] * mask.sum(dim=(1, 2, 3))
    return ((a - b).abs() * mask).sum(dim=(1, 2, 3)) / count.clamp(min=1)


def known_l1(prediction: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference on the known pixels, for each picture of the batch: a term of the authors' code.

    The prediction may have the network's padding, which that code counts: image and mask are reflected to its size.

    Shape: prediction (B, 3, H + down, W + right), image (B, 3, H, W), mask (B, 1, H, W) -> (B,).
    """
    down, right = (p - i for p, i in zip(prediction.shape[-2:], image.shape[-2:], strict=True))
    image, mask = (F.pad(t, (0, right, 0, down), mode="reflect") for t in (image, mask))
    return masked_l1(prediction, image, 1 - mask)
