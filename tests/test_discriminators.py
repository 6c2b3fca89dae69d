"""What a discriminator needs to learn is measured on pictures that it has not seen."""

import torch

from refine_lib.masks import paste
from refine_lib.workshop.discriminators import learns
from refine_lib.workshop.sheets import Sheets


def test_a_discriminator_with_the_mask_tells_gray_holes_and_cannot_tell_the_truth_from_itself():
    sheets = Sheets("patterns")
    batches = [(image, paste(torch.full_like(image, 0.5), image, mask), mask) for image, mask in map(sheets.batch, range(24))]
    loss, right = learns("mask, Muon", batches[:20], batches[20:])
    assert loss < 1.0 and right > 0.7
    twins = [(image, image, mask) for image, _, mask in batches]
    loss, right = learns("mask, Muon", twins[:5], twins[5:7])
    assert loss > 1.38 and abs(right - 0.5) < 1e-6
