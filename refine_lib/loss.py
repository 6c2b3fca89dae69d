"""The loss of Algorithm 1: how far the prediction, downscaled, is from the level below, inside the eroded hole."""

import torch.nn.functional as F

from refine_lib.pyramid import downscale_matrix


class Agreement:
    """The loss at one level; all that stays the same from iteration to iteration is made once.

    Called with a prediction (B, 3, H, W) it gives ``masked_l1(downscale(prediction), inpainted_low_res, eroded)``, (B,), but
    looks only at the part of it that the eroded hole sees, and downscales with two matrices, one for rows, one for columns.

    Args:
        inpainted_low_res: (B, 3, H // 2, W // 2).
        eroded: (B, 1, H // 2, W // 2), 1 where the two should agree.
        size: (H, W).

    Attributes:
        has_target: (B,) bool, the pictures of the batch with a place where they should agree.
        possible: whether there is any.

    Source: the loss of Algorithm 1, ``predict_and_refine``.
    """

    def __init__(self, inpainted_low_res, eroded, size):
        self.has_target = eroded.flatten(1).any(dim=1)
        self.n_targets = self.has_target.sum()
        self.possible = bool(self.n_targets)
        if not self.possible:
            return
        rows, columns = bounding_box(eroded)
        self.target = inpainted_low_res[..., rows, columns]
        count = eroded.sum(dim=(1, 2, 3), keepdim=True) * self.target.shape[1]
        self.weight = eroded[..., rows, columns] / count.clamp(min=1)
        (self.by_rows, rows), (by_columns, columns) = (
            downscale_matrix(n, part, like=inpainted_low_res) for n, part in zip(size, (rows, columns), strict=True)
        )
        self.by_columns = by_columns.mT
        self.unseen = columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop

    def __call__(self, prediction):
        if not self.possible:
            return prediction.new_zeros(len(prediction))
        small = self.by_rows @ cropped(prediction, self.unseen) @ self.by_columns
        return ((small - self.target).abs() * self.weight).sum(dim=(1, 2, 3))

    def mean(self, losses):
        """The losses (B,) of those pictures that have a place to agree, averaged: a tensor of one number; None without any."""
        return None if not self.possible else (losses.detach() * self.has_target).sum() / self.n_targets


def cropped(x, beside):
    """A picture, or featuremap, without what is beside: columns at the left, at the right, rows at the top, at the bottom.

    In a step of its own, as here, the gradient takes one too; through slices each takes one that clears the whole anew.
    """
    return F.pad(x, [-n for n in beside])


def bounding_box(mask):
    """The rows and the columns that hold a mask's ones, as two slices; for a batch those of all its masks together."""
    found = (mask > 0).flatten(0, 1).any(dim=0)
    places = [lines.nonzero().flatten().tolist() for lines in (found.any(dim=1), found.any(dim=0))]
    return tuple(slice(line[0], line[-1] + 1) if line else slice(0, 0) for line in places)


def masked_l1(a, b, mask):
    """Mean absolute difference where the mask is 1, for each picture of the batch; 0 where it is 1 nowhere.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> (B,).

    Source: the loss of Algorithm 1, ``predict_and_refine``.
    """
    count = a.shape[1] * mask.sum(dim=(1, 2, 3))
    return ((a - b).abs() * mask).sum(dim=(1, 2, 3)) / count.clamp(min=1)


def known_l1(prediction, image, mask):
    """Mean absolute difference on the known pixels, for each picture of the batch: a term of the authors' code.

    The prediction may have the network's padding, which that code counts: image and mask are reflected to its size.

    Shape: prediction (B, 3, H + down, W + right), image (B, 3, H, W), mask (B, 1, H, W) -> (B,).
    """
    down, right = (p - i for p, i in zip(prediction.shape[-2:], image.shape[-2:], strict=True))
    image, mask = (F.pad(t, (0, right, 0, down), mode="reflect") for t in (image, mask))
    return masked_l1(prediction, image, 1 - mask)
