"""LaMa's way from global to global channels, through the spectrum, with a gradient of its own.

A 1x1 convolution to half of the channels, a Fourier unit, which is added to what it saw, and a 1x1 convolution back to all.
A Fourier transform of real numbers is linear, as its inverse is: for small maps on a CPU, which wait for calls, both are
products with small matrices, and the gradient takes the transposes. For large ones it is torch's transform, and a Fourier unit,
without its ReLU, its own mirror image: torch's ``irfft2`` is the transpose of ``rfft2`` but for a factor of 2 in all columns
but the first and (for an even width) the last; a 1x1 convolution mixes channels within a column, so on the way back the factor
meets its inverse, and the gradient takes the forward's path with the weights transposed.
"""

import functools
import math

import torch

from refine_lib.fast.frozen import Frozen, factor_and_shift, places, where, without_norm
from refine_lib.fast.products import Product, rows_of, times

SIDE = 32  # of a map, up to which products take less time than a Fourier transform ...
LIGHT = 2**16  # ... if a unit has so few weights; they are there twice


class FusedSpectral(Frozen):
    """A ``SpectralTransform`` without batch norms.

    Args:
        spectral: in eval mode; its weights are copied.
        norm: the batch norm behind the sum that it is part of, whose factor it takes. The shift is left to another part.
        precision: of the products, as in ``FusedBlocks``.
    """

    def __init__(self, spectral, norm, precision=None):
        super().__init__()
        wide = torch.promote_types(precision or spectral.conv2.weight.dtype, torch.float32)
        squeeze, unit = spectral.conv1, spectral.fu
        self.squeeze = Product(*without_norm(squeeze[0].weight, *factor_and_shift(squeeze[1]), wide), precision)
        mix = without_norm(unit.conv_layer.weight, *factor_and_shift(unit.bn), wide)
        self.mix = Product(*mix, precision)
        self.mix_rows = Product(*_parts_first(*mix), precision) if mix[0].numel() <= LIGHT else None
        factor, _ = factor_and_shift(norm)
        self.widen = Product(without_norm(spectral.conv2.weight, factor, 0 * factor, wide)[0], None, precision)
        self.at_hand()

    def add(self, to, x):
        """Adds what it makes of x to ``to``, both (B, C, H, W), channels last; returns where the ReLUs let through."""
        if self._is_small(x):
            forth, back = _transforms(*x.shape[2:], self.squeeze.weight.dtype)
            squeezed = self.squeeze.forward_rows(rows_of(x), relu=True)
            spectrum = self.mix_rows.forward_rows(forth.forward(squeezed), relu=True)
            self.widen.add_rows(rows_of(to), back.back(spectrum).add_(squeezed))
        else:
            squeezed = self.squeeze.forward(x).relu_()
            spectrum = self.mix.forward(_spectrum(squeezed)).relu_()
            self.widen.add(to, _picture(spectrum, squeezed.shape).add_(squeezed))
        return places(squeezed), places(spectrum)

    def add_back(self, to, gradient, passed):
        """Adds the gradient by x to ``to``, given that by what was made of x; both are channels last."""
        squeezed, spectrum = passed
        if self._is_small(gradient):
            forth, back = _transforms(*gradient.shape[2:], self.squeeze.weight.dtype)
            seen = self.widen.back_rows(rows_of(gradient))
            mixed = self.mix_rows.back_rows(where(back.forward(seen), spectrum))
            self.squeeze.add_back_rows(rows_of(to), where(forth.back(mixed).add_(seen), squeezed))
        else:
            seen = self.widen.back(gradient)
            mixed = self.mix.back(where(_spectrum(seen), spectrum))
            self.squeeze.add_back(to, where(_picture(mixed, seen.shape).add_(seen), squeezed))

    def _is_small(self, x):
        return self.mix_rows is not None and x.is_cpu and len(x) == 1 and max(x.shape[2:]) <= SIDE


def _parts_first(weight, bias):
    """The weight and the bias of a Fourier unit's convolution for all real parts first, then all imaginary ones; its own has
    those of a channel together."""
    n = len(weight) // 2
    return weight.view(n, 2, n, 2).transpose(0, 1).transpose(2, 3).reshape(2 * n, 2 * n), bias.view(n, 2).T.flatten()


def _spectrum(x):
    """(B, C, H, W) -> (B, 2 C, W // 2 + 1, H): real part, imaginary part of each channel."""
    spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
    return spectrum.permute(0, 1, 4, 3, 2).flatten(1, 2)


def _picture(spectrum, shape):
    """The inverse of ``_spectrum``, which gave it from this shape; it begins with the columns, so they lie at a stretch."""
    parts = spectrum.unflatten(1, (-1, 2)).unbind(2)
    return torch.fft.irfft2(torch.complex(*parts).mT, s=shape[-2:], norm="ortho")


class Transform:
    """A linear transform of maps of one size, first along their columns, then along their rows, and its transpose.

    Args:
        columns: (2 h, H), for each of h frequencies the real and the imaginary part.
        rows: (2 n, 2 W), from the real and the imaginary part at each place of a row to those of n frequencies.
    """

    def __init__(self, columns, rows):
        h = len(columns) // 2
        self.columns, self.rows = columns, rows.expand(h, *rows.shape)
        self.columns_back, self.rows_back = columns.T.contiguous(), rows.T.contiguous().expand(h, *rows.T.shape)
        self.between = h, rows.shape[1], -1

    def forward(self, x):
        """(H W, C) -> (h n, 2 C): for each frequency the real parts of all channels, then the imaginary ones."""
        seen = times(self.columns, x.view(self.columns.shape[1], -1))
        return torch.bmm(self.rows, seen.view(self.between)).view(-1, 2 * x.shape[1])

    def back(self, x):
        """The transpose: (h n, 2 C) -> (H W, C)."""
        seen = torch.bmm(self.rows_back, x.view(*self.rows.shape[:2], -1))
        return times(self.columns_back, seen.view(len(self.columns), -1)).view(-1, x.shape[1] // 2)


@functools.lru_cache(maxsize=16)
def _transforms(height, width, dtype):
    """The Fourier transform for pictures of this size, and the transpose of the inverse one.

    The spectrum of a real picture is kept as torch does, for all frequencies of a column and those of a row from 0 up. A column
    is real, so it is transformed for frequencies from 0 up alone; a row then gives those of the same size below 0 as well.
    Where that is the same frequency again, the inverse takes half of both.
    """
    (cos, sin, once), (cos_x, sin_x, once_x) = _waves(height), _waves(width)
    columns = torch.stack([cos, -sin], dim=1)
    above = torch.cat([cos_x, sin_x], dim=1), torch.cat([-sin_x, cos_x], dim=1)
    below = torch.cat([cos_x, -sin_x], dim=1), torch.cat([-sin_x, -cos_x], dim=1)
    rows = torch.stack([torch.stack(above, dim=1), torch.stack(below, dim=1)])
    columns_back = columns * torch.where(once, 0.5, 1)[:, None, None]
    rows_back = rows * torch.where(once_x, 1, 2)[:, None, None]  # a frequency above 0 stands for that below 0 too
    forth, back = (columns, rows), (columns_back, rows_back)
    return tuple(Transform(a.flatten(0, 1).to(dtype), b.flatten(0, 2).to(dtype)) for a, b in (forth, back))


def _waves(n):
    """Cosines and sines (n // 2 + 1, n) of the frequencies that n places have, and which of these have no mirror image."""
    frequencies, places = torch.arange(n // 2 + 1), torch.arange(n, dtype=torch.float64)
    angle = 2 * math.pi / n * (frequencies[:, None] * places % n)
    return angle.cos() / n**0.5, angle.sin() / n**0.5, 2 * frequencies % n == 0
