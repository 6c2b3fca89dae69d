"""LaMa's residual blocks with a gradient of their own: the same answer in less time and a small part of the memory.

Two things make it possible. The weights are frozen, so the gradient goes to the featuremap alone and needs nothing of what the
convolutions saw; all that is not linear in a block are ReLUs, so all that it needs are the places where they let through, a
byte for each number. And a Fourier unit, without its ReLU, is its own mirror image: torch's ``irfft2`` is the transpose of
``rfft2`` but for a factor of 2 in all columns but the first and (for an even width) the last; a 1x1 convolution mixes channels
within a column, so on the way back the factor meets its inverse, and the gradient takes the forward's path with the weights
transposed.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.networks.lama import FourierBlock


class FusedBlocks(nn.Module):
    """A run of ``FourierBlock`` in one function.

    Args:
        blocks: with local and global channels, in eval mode; their weights are copied.
        precision: of convolutions and products, e.g. ``torch.bfloat16``; None is that of the weights. Fourier transforms and
            the sums that run through all blocks keep float32 (float64 where the weights have it).

    Shape:
        (local, global) -> (local, global), as a ``FourierBlock``.
    """

    def __init__(self, blocks, precision=None):
        super().__init__()
        self.layers = nn.ModuleList(FusedLayer(layer, precision) for block in blocks for layer in (block.conv1, block.conv2))

    def forward(self, x):
        with torch.autocast(x[0].device.type, enabled=False):  # it would do the products of a transform in half the bits
            return _Blocks.apply(*x, list(self.layers))

    @staticmethod
    def can_hold(layer):
        """Whether a layer is a block that can be fused."""
        return isinstance(layer, FourierBlock) and layer.conv1.ffc.n_global[0] > 0


class _Blocks(torch.autograd.Function):
    """x + layer2(layer1(x)), block after block."""

    @staticmethod
    def forward(ctx, local, global_, layers):
        local, global_ = (t.contiguous(memory_format=torch.channels_last) for t in (local, global_))
        ctx.layers, kept = layers, []
        for first, second in zip(layers[::2], layers[1::2], strict=True):
            between, passed = first.forward(local, global_)
            change, passed_2 = second.forward(*between)
            local, global_ = local + change[0], global_ + change[1]
            if any(ctx.needs_input_grad):
                kept += [*passed, *passed_2]
        ctx.save_for_backward(*kept)
        return local, global_

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, local, global_):
        kept = list(ctx.saved_tensors)
        for first, second in zip(ctx.layers[-2::-2], ctx.layers[::-2], strict=True):
            *kept, a, b, c, d = kept
            change = second.backward(local, global_, (a, b, c, d))
            *kept, a, b, c, d = kept
            change = first.backward(*change, (a, b, c, d))
            local, global_ = local + change[0], global_ + change[1]
        return local, global_, None


class FusedLayer(nn.Module):
    """A ``FourierLayer`` without batch norms, with the local and the global channels that come from the local ones in one
    convolution. ``backward`` takes the gradient from its output to its input; ``passed`` says where the ReLUs let through.
    """

    def __init__(self, layer, precision=None):
        super().__init__()
        ffc = layer.ffc
        spectral = ffc.convg2g
        self.n_local = ffc.convl2l.out_channels
        local, global_ = factor_and_shift(layer.bn_l), factor_and_shift(layer.bn_g)
        squeezed, mixed = factor_and_shift(spectral.conv1[1]), factor_and_shift(spectral.fu.bn)
        like = ffc.convl2l.weight

        def keep(name, weight, factor=None, matrix=False):
            weight = weight.cpu().double() * (1 if factor is None else factor.view(-1, *[1] * (weight.ndim - 1)))
            weight = weight.flatten(1) if matrix else weight
            weight = weight.to(dtype=precision or like.dtype, device=like.device)
            weight = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
            self.register_buffer(name, weight, persistent=False)

        both = [torch.cat(pair) for pair in zip(local, global_, strict=True)]
        keep("from_local", torch.cat([ffc.convl2l.weight, ffc.convl2g.weight]), both[0])
        keep("bias", both[1])
        keep("from_global", ffc.convg2l.weight, local[0])
        keep("squeeze", spectral.conv1[0].weight, squeezed[0], matrix=True)
        keep("squeeze_bias", squeezed[1][:, None])
        keep("mix", spectral.fu.conv_layer.weight, mixed[0], matrix=True)
        keep("mix_bias", mixed[1][:, None])
        keep("widen", spectral.conv2.weight, global_[0], matrix=True)

    def forward(self, local, global_):
        local, global_ = local.to(self.bias.dtype), global_.to(self.bias.dtype)
        both = F.conv2d(_pad(local), self.from_local, self.bias)
        local_out = F.conv2d(_pad(global_), self.from_global)
        local_out = local_out.add_(both[:, : self.n_local]).relu_()

        size = global_.shape[-2:]
        squeezed = _matrix(self.squeeze, global_.flatten(2), self.squeeze_bias).relu_()  # (B, C/2, H*W)
        spectrum = _matrix(self.mix, self._spectrum(squeezed, size), self.mix_bias).relu_()
        seen = self._picture(spectrum, size).add_(squeezed)
        global_out = _rows(seen.mT, self.widen.mT, _as_rows(both[:, self.n_local :]))  # (B, H*W, C)
        global_out = _from_rows(global_out, size).relu_()
        # bool() of what a ReLU gave is the same as > 0, and several times faster on a CPU
        return (local_out, global_out), tuple(t.bool() for t in (squeezed, spectrum, local_out, global_out))

    def backward(self, local, global_, passed):
        squeezed, spectrum, local_out, global_out = passed
        size = global_.shape[-2:]
        both = torch.cat([_where(local, local_out), _where(global_, global_out)], dim=1).to(self.bias.dtype)
        local, global_ = both[:, : self.n_local], both[:, self.n_local :]
        to_local = _unpad(F.conv_transpose2d(both, self.from_local))
        to_global = _unpad(F.conv_transpose2d(local, self.from_global))

        seen = _matrix(self.widen.mT, global_.flatten(2))
        back = _where(self._spectrum(seen, size), spectrum)
        back = self._picture(_matrix(self.mix.mT, back), size).add_(seen)
        back = _rows(_where(back, squeezed).mT, self.squeeze, _as_rows(to_global))
        return to_local, _from_rows(back, size)

    def _spectrum(self, x, size):
        """(B, C, H*W) -> (B, 2 C, H * (W // 2 + 1)): real part, imaginary part of each channel."""
        full = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(2, size)
        if _is_small(x, size):
            rows, columns = _fourier_matrices(size, full.dtype)[:2]
            spectrum = (full @ columns).view(*full.shape[:2], 2 * size[0], -1)
            return (rows @ spectrum).view(len(x), 2 * x.shape[1], -1).to(x.dtype)
        spectrum = torch.view_as_real(torch.fft.rfft2(full, norm="ortho"))
        return spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2).flatten(2).to(x.dtype)

    def _picture(self, spectrum, size):
        """The inverse of ``_spectrum``."""
        full = spectrum.to(torch.promote_types(spectrum.dtype, torch.float32)).unflatten(2, (size[0], -1)).unflatten(1, (-1, 2))
        if _is_small(spectrum, size):
            rows, columns = _fourier_matrices(size, full.dtype)[2:]
            spectrum = (rows @ full.flatten(2, 3)).view(*full.shape[:2], size[0], -1)
            return (spectrum @ columns).flatten(2).to(self.bias.dtype)
        full = torch.view_as_complex(full.permute(0, 1, 3, 4, 2).contiguous())
        return torch.fft.irfft2(full, s=size, norm="ortho").flatten(2).to(self.bias.dtype)


def _is_small(x, size):
    """Whether products with matrices are faster on a CPU than Fourier transforms and the sorting of what they give."""
    return x.device.type == "cpu" and max(size) <= 40


@functools.lru_cache(maxsize=16)
def _fourier_matrices(size, dtype):
    """``rfft2`` and ``irfft2`` with ``norm="ortho"`` as products, from the transforms of unit vectors.

    With real and imaginary parts side by side, ``rows @ (x @ columns)`` is (B, C, 2, H, W // 2 + 1): the product with columns
    gives for each row the real parts, then the imaginary ones; that with rows takes these as 2 H rows, and puts all real parts
    before all imaginary ones.

    Returns:
        rows (2 H, 2 H), columns (W, 2 (W // 2 + 1)), and those of the inverse.
    """
    height, width = size
    unit, along = torch.eye(width, dtype=torch.float64), torch.eye(height, dtype=torch.complex128)
    columns = torch.fft.rfft(unit, norm="ortho")
    columns = torch.cat([columns.real, columns.imag], dim=1)
    half = torch.eye(width // 2 + 1, dtype=torch.complex128)
    back = torch.cat([torch.fft.irfft(part, n=width, norm="ortho") for part in (half, 1j * half)])
    forward, inverse = (transform(along, dim=0, norm="ortho") for transform in (torch.fft.fft, torch.fft.ifft))

    def real(matrix):
        """A complex matrix as a real one: [real or imaginary out, H, H, real or imaginary in]."""
        return torch.stack([torch.stack([matrix.real, -matrix.imag], -1), torch.stack([matrix.imag, matrix.real], -1)])

    rows = real(forward).reshape(2 * height, 2 * height)
    rows_back = real(inverse).permute(1, 0, 3, 2).reshape(2 * height, 2 * height)
    return tuple(matrix.to(dtype) for matrix in (rows, columns, rows_back, back))


@torch.no_grad()
def factor_and_shift(norm):
    """What a batch norm multiplies and adds in eval mode, in float64, on the CPU: the variances of published weights reach
    millions, and not every device has float64."""
    weight, bias, mean, variance = (t.cpu().double() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    factor = weight / (variance + norm.eps).sqrt()
    return factor, bias - mean * factor


def _matrix(weight, x, bias=None):
    """weight (O, C) times each picture's (B, C, N), plus bias (O, 1)."""
    weight = weight.expand(len(x), -1, -1)
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias, weight, x)


def _rows(x, weight, plus):
    """plus + x times weight: (B, N, O) + (B, N, C) @ (C, O)."""
    return torch.baddbmm(plus, x, weight.expand(len(x), -1, -1))


def _as_rows(x):
    """(B, C, H, W) -> (B, H*W, C), a view where x is channels last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _from_rows(x, size):
    return x.unflatten(1, size).permute(0, 3, 1, 2)


def _where(x, passed):
    """x where a ReLU let through, else 0; a byte multiplies several times faster than a bool does on a CPU."""
    return x * passed.view(torch.int8)


def _pad(x):
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def _unpad(x):
    """The transpose of ``_pad``, in place: what lies in the border is added to what it was reflected from."""
    for dim in (2, 3):
        x.select(dim, 2).add_(x.select(dim, 0))
        x.select(dim, -3).add_(x.select(dim, -1))
    return x[:, :, 1:-1, 1:-1]
