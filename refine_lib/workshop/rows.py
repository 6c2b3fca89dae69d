"""Featuremaps as rows, a pixel each: what a convolution's windows and a Fourier transform are then, linear maps between rows.

Each knows its transpose, which a gradient takes.
"""

import contextlib
import functools

import torch
import torch.nn.functional as F

LARGEST_PRODUCT = 256  # pixels of a map up to which a product takes less time than a Fourier transform

# Within a function with a gradient of its own torch goes through autograd at each call all the same, which costs small ones.
below_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", contextlib.nullcontext)


def rows_of(x):
    """A view of a map that is channels last, a row for each pixel: (B, C, H, W) -> (B H W, C)."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


class Sums:
    """A linear map between rows: each row of the target is the sum of some rows of the source; ``back`` is its transpose.

    Args:
        targets, sources: (M,), the pairs; a pair says that the row of the source is part of the row of the target.
        n_targets, n_sources: how many rows there are.
    """

    def __init__(self, targets, sources, n_targets, n_sources):
        self.pairs = _grouped(targets, sources, n_targets)
        self.pairs_back = _grouped(sources, targets, n_sources)

    def __call__(self, rows):
        """(n_sources, C) -> (n_targets, C)."""
        return torch.embedding_bag(rows, *self.pairs, False, 0, False, None, True)[0]

    def back(self, rows):
        """(n_targets, C) -> (n_sources, C)."""
        return torch.embedding_bag(rows, *self.pairs_back, False, 0, False, None, True)[0]


class Sum(torch.autograd.Function):
    """``Sums`` with a gradient."""

    @staticmethod
    def forward(ctx, rows, sums):
        ctx.sums = sums
        return sums(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return ctx.sums.back(gradient.contiguous()), None


def _grouped(by, what, n):
    ends = torch.bincount(by, minlength=n).cumsum(0)
    return what[torch.argsort(by, stable=True)], torch.cat([ends.new_zeros(1), ends])


def _padded_places(batch, height, width, n):
    """(B, H + 2 n, W + 2 n): the number of the pixel that is seen at each place of a map with n reflected pixels around it."""
    places = torch.arange(batch * height * width, dtype=torch.float64).view(batch, 1, height, width)
    return F.pad(places, (n,) * 4, mode="reflect").long().squeeze(1)


def _taps(batch, height, width):
    """(B H W, 9): the pixels that a 3x3 window sees at each pixel of a map with reflected borders."""
    return _padded_places(batch, height, width, 1).unfold(1, 3, 1).unfold(2, 3, 1).reshape(-1, 9)


@functools.lru_cache(maxsize=8)
def windows(batch, height, width):
    """From (pixels * 9, C), what each pixel says to each of the nine places of a window, to the sums (pixels, C)."""
    taps = _taps(batch, height, width)
    n, places = len(taps), torch.arange(9)
    return Sums(torch.arange(n).repeat_interleave(9), (9 * taps + places).flatten(), n, 9 * n)


@functools.lru_cache(maxsize=8)
def unfolded_of(batch, height, width):
    """From (pixels, C) to the windows (pixels * 9, C)."""
    taps = _taps(batch, height, width)
    return Sums(torch.arange(taps.numel()), taps.flatten(), taps.numel(), len(taps))


@functools.lru_cache(maxsize=8)
def padded_by_fours(batch, height, width):
    """From (pixels, C) to the map with 3 reflected pixels around it, as rows that have each 2 x 2 pixels side by side."""
    fours = _padded_places(batch, height, width, 3).unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten()
    return Sums(torch.arange(len(fours)), fours, len(fours), batch * height * width)


def by_fours(weight):
    """(O, C, K, K) -> (4 O, 4 C, (K + 1) / 2, (K + 1) / 2): the weights for rows as ``padded_by_fours`` gives them, K odd."""
    found = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # of the pixel in its four: there the kernel begins
        part = F.pad(weight, (column, 1 - column, row, 1 - row)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        found.append(part.permute(0, 3, 5, 1, 2, 4).flatten(1, 3))  # O, (row, column, C), K / 2, K / 2
    return torch.cat(found)


def spread(x):
    """(B, 4 C, H, W) -> (B, C, 2 H, 2 W): the four pixels, in the order row, column, C, each at its place."""
    fours = x.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))
    return fours.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Transform:
    """The Fourier transform of small or large maps as rows, its inverse, and the transposes of both.

    torch's ``irfft2`` is the transpose of ``rfft2`` but for a factor of 2 in all columns but the first and (for an even width)
    the last.
    """

    def __init__(self, batch, height, width, dtype):
        self.batch, self.size = batch, (height, width)
        self.wide = torch.promote_types(dtype, torch.float32)  # half precision has no FFT on the CPU
        self.factor = torch.full((width // 2 + 1, 1), 2, dtype=self.wide)
        self.factor[:: width // 2 if width % 2 == 0 else width] = 1
        self.matrix = None
        if height * width <= LARGEST_PRODUCT:
            pixels, one = height * width, Transform.__new__(Transform)
            one.__dict__.update(self.__dict__, batch=pixels, wide=torch.float64)
            seen = one.to_spectrum(torch.eye(pixels, dtype=torch.float64).view(-1, 1))
            self.matrix = seen.view(pixels, -1).T.to(dtype).expand(batch, -1, -1)  # (B, 2 frequencies, pixels)
            factor = self.factor.repeat(height, 2).view(-1, 1).to(dtype)
            self.matrix_back = (self.matrix[0] * factor).T.expand(batch, -1, -1)

    def to_spectrum(self, rows, transposed=False):
        """(B H W, C) -> (B frequencies, 2 C), the real parts first; transposed it is the transpose of ``to_picture``."""
        channels = rows.shape[1]
        if self.matrix is not None:
            matrix = self.matrix_back.mT if transposed else self.matrix
            return torch.bmm(matrix, rows.view(self.batch, -1, channels)).view(-1, 2 * channels)
        spectrum = torch.fft.rfft2(rows.to(self.wide).view(self.batch, *self.size, channels), dim=(1, 2), norm="ortho")
        spectrum = spectrum * self.factor if transposed else spectrum
        return torch.cat([spectrum.real, spectrum.imag], dim=3).view(-1, 2 * channels).to(rows.dtype)

    def to_picture(self, rows, transposed=False):
        """(B frequencies, 2 C) -> (B H W, C); transposed it is the transpose of ``to_spectrum``."""
        channels = rows.shape[1] // 2
        if self.matrix is not None:
            matrix = self.matrix.mT if transposed else self.matrix_back
            return torch.bmm(matrix, rows.view(self.batch, -1, channels)).view(-1, channels)
        parts = rows.to(self.wide).view(self.batch, self.size[0], -1, 2 * channels)
        parts = parts / self.factor if transposed else parts
        spectrum = torch.complex(parts[..., :channels], parts[..., channels:])
        return torch.fft.irfft2(spectrum, s=self.size, dim=(1, 2), norm="ortho").reshape(-1, channels).to(rows.dtype)


transform_of = functools.lru_cache(maxsize=8)(Transform)
