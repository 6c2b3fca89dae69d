"""What a fill looks like close to: how sharp it is, and whether a grid lies over it."""

import torch

CELL = 8  # pixels of a picture to one place of z: the period of the grid that a network may leave


def sharpness(filled, truth, masks):
    """Squared differences of horizontal neighbors in the hole, over the truth's: 1 is as sharp, 0 is flat.

    Shape: filled and truth (B, 3, H, W), masks (B, 1, H, W), 1 = hole -> a float, of all pictures together.
    """
    both = _both_in_hole(masks)
    energy, of_truth = ((picture.double().diff(dim=-1) ** 2 * both).sum() for picture in (filled, truth))
    return (energy / of_truth).item()


def grid_strength(pictures, masks):
    """How much neighbors differ more at one of eight columns than at the others: 1 is no grid of 8 px.

    It is the mean absolute difference of horizontal neighbors in the hole, taken for each column of the left one, modulo 8:
    the largest of the eight over their mean.

    Shape: pictures (B, 3, H, W), masks (B, 1, H, W), 1 = hole -> a float, of all pictures together.
    """
    both = _both_in_hole(masks)
    column = torch.arange(both.shape[-1]) % CELL
    difference = (pictures.double().diff(dim=-1).abs() * both).mean(dim=1, keepdim=True)
    total, count = (torch.zeros(CELL).double().index_add(0, column, x.double().sum(dim=(0, 1, 2))) for x in (difference, both))
    means = (total / count)[count > 0]
    return (means.max() / means.mean()).item()


def _both_in_hole(masks):
    """Where a pixel and its right neighbor lie in the hole: (B, 1, H, W) -> (B, 1, H, W - 1)."""
    return masks.unfold(-1, 2, 1).amin(-1)
