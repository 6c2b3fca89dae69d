"""LaMa's way from global to global channels, through the spectrum, with a gradient of its own.

A 1x1 convolution to half of the channels; a Fourier unit, which is added to what it saw; and a 1x1 convolution back to all.

Without its ReLU a Fourier unit is its own mirror image. torch's ``irfft2`` is the transpose of ``rfft2`` but for a factor of 2
in all columns except the first and (for an even width) the last. A 1x1 convolution mixes channels within a column. So on the
way back the factor meets its inverse. The gradient therefore takes the forward's path with the weights transposed.
"""

from typing import Any

import torch
from torch import nn

from refine_lib.fast.frozen import places, where
from refine_lib.fast.products import Product
from refine_lib.networks.lama import SpectralTransform


class FusedSpectral(nn.Module):
    """A ``SpectralTransform`` whose batch norms are folded.

    Args:
        spectral: in eval mode; its weights are copied.
        precision: of the products, as in ``FusedBlocks``.
    """

    def __init__(self, spectral: SpectralTransform, precision: torch.dtype | None = None):
        super().__init__()
        layers: list[Any] = [spectral.conv1[0], spectral.fu.conv_layer, spectral.conv2]
        self.squeeze, self.mix, self.widen = (
            Product(layer.weight.detach().flatten(1), layer.bias, precision) for layer in layers
        )

    def add(self, to: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds what it makes of x to ``to``, both (B, C, H, W), channels last; returns where the ReLUs let through."""
        squeezed = self.squeeze(x).relu_()
        spectrum = self.mix(_spectrum(squeezed)).relu_()
        self.widen.add(to, _picture(spectrum, squeezed.shape).add_(squeezed))
        return places(squeezed), places(spectrum)

    def add_back(self, to: torch.Tensor, gradient: torch.Tensor, passed: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Adds the gradient by x to ``to``, given that by what was made of x, both channels last, and what ``add`` returned."""
        squeezed, spectrum = passed
        seen = self.widen.back(gradient)
        mixed = self.mix.back(where(_spectrum(seen), spectrum))
        self.squeeze.add_back(to, where(_picture(mixed, seen.shape).add_(seen), squeezed))


def _spectrum(x):
    """(B, C, H, W) -> (B, 2 C, W // 2 + 1, H): real part, imaginary part of each channel."""
    spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
    return spectrum.permute(0, 1, 4, 3, 2).flatten(1, 2)


def _picture(spectrum, shape):
    """The inverse of ``_spectrum``, which gave it from this shape; it begins with the columns, so they lie at a stretch."""
    parts = spectrum.unflatten(1, (-1, 2)).unbind(2)
    return torch.fft.irfft2(torch.complex(*parts).mT, s=shape[-2:], norm="ortho")
