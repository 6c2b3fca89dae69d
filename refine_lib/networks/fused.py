"""LaMa's residual blocks and its last layers with a gradient of their own: the same answer in less time and less memory.

Two things make it possible for the blocks. The weights are frozen, so the gradient goes to the featuremap alone and needs
nothing of what the convolutions saw; all that is not linear in a block are ReLUs, so all that it needs are the places where
they let through, a byte for each number. And a Fourier unit, without its ReLU, is its own mirror image: torch's ``irfft2`` is
the transpose of ``rfft2`` but for a factor of 2 in all columns but the first and (for an even width) the last; a 1x1
convolution mixes channels within a column, so on the way back the factor meets its inverse, and the gradient takes the
forward's path with the weights transposed.

The last convolution, of a few channels at full size, is slow on a CPU for having so few; with each 2 x 2 pixels taken as one of
four times the channels it is the same sum in less than half of the time.
"""

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.networks.lama import FourierBlock
from refine_lib.networks.products import add_product, convolve, convolve_back, product


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
    """x + layer2(layer1(x)), block after block, with local and global channels together."""

    @staticmethod
    def forward(ctx, local, global_, layers):
        x, kept = _together(local, global_), []
        for first, second in zip(layers[::2], layers[1::2], strict=True):
            between, passed = first.forward(x)
            change, passed_2 = second.forward(between)
            x = x + change
            if any(ctx.needs_input_grad):
                kept += [*passed, *passed_2]
        ctx.layers, ctx.n_local = layers, local.shape[1]
        ctx.save_for_backward(*kept)
        return x[:, : ctx.n_local], x[:, ctx.n_local :]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, local, global_):
        gradient, kept = _together(local, global_), list(ctx.saved_tensors)
        for first, second in zip(ctx.layers[-2::-2], ctx.layers[::-2], strict=True):
            *kept, a, b, c = kept
            change = second.backward(gradient, (a, b, c))
            *kept, a, b, c = kept
            gradient = gradient + first.backward(change, (a, b, c))
        return gradient[:, : ctx.n_local], gradient[:, ctx.n_local :], None


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
        self.dtype = precision or like.dtype  # of convolutions and products
        self.wide = torch.promote_types(self.dtype, torch.float32)  # of the Fourier transforms and of sums

        def keep(name, weight, factor=None):
            weight = weight.cpu().double() * (1 if factor is None else factor.view(-1, *[1] * (weight.ndim - 1)))
            weight = weight.flatten(1) if weight.shape[2:] == (1, 1) else weight
            weight = weight.to(dtype=self.dtype, device=like.device)
            weight = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
            self.register_buffer(name, weight, persistent=False)

        both = [torch.cat(pair) for pair in zip(local, global_, strict=True)]
        keep("from_local", torch.cat([ffc.convl2l.weight, ffc.convl2g.weight]), both[0])
        keep("bias", both[1])
        keep("from_global", ffc.convg2l.weight, local[0])
        keep("squeeze", spectral.conv1[0].weight, squeezed[0])
        keep("squeeze_bias", squeezed[1])
        keep("mix", spectral.fu.conv_layer.weight, mixed[0])
        keep("mix_bias", mixed[1])
        keep("widen", spectral.conv2.weight, global_[0])

    def forward(self, x):
        x = x.to(self.dtype)
        out = self._convolve(_pad(x))
        squeezed = product(self.squeeze, x[:, self.n_local :], self.squeeze_bias).relu_().to(self.wide)
        spectrum = product(self.mix, _spectrum(squeezed).to(self.dtype), self.mix_bias).relu_()
        seen = _picture(spectrum.to(self.wide), squeezed.shape).add_(squeezed).to(self.dtype)
        add_product(out[:, self.n_local :], self.widen, seen)
        out.relu_()
        return out, (squeezed.bool(), spectrum.bool(), out.bool())  # of what a ReLU gave this is > 0, in a fifth of the time

    def backward(self, gradient, passed):
        squeezed, spectrum, out = passed
        gradient = _where(gradient.to(self.dtype), out)
        to_both = _unpad(self._convolve_back(gradient)).contiguous(memory_format=torch.channels_last)
        seen = product(self.widen.mT, gradient[:, self.n_local :]).to(self.wide)
        back = _where(_spectrum(seen), spectrum).to(self.dtype)
        back = product(self.mix.mT, back).to(self.wide)
        back = _where(_picture(back, seen.shape).add_(seen), squeezed).to(self.dtype)
        add_product(to_both[:, self.n_local :], self.squeeze.mT, back)
        return to_both

    def _convolve(self, padded):
        out = convolve(padded[:, : self.n_local], self.from_local, self.bias)
        out[:, : self.n_local].add_(convolve(padded[:, self.n_local :], self.from_global))
        return out

    def _convolve_back(self, gradient):
        to_global = convolve_back(gradient[:, : self.n_local], self.from_global)
        return torch.cat([convolve_back(gradient, self.from_local), to_global], dim=1)


def _together(local, global_):
    return torch.cat([local, global_], dim=1).contiguous(memory_format=torch.channels_last)


def _spectrum(x):
    """(B, C, H, W) -> (B, 2 C, H, W // 2 + 1): real part, imaginary part of each channel."""
    spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
    return spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _picture(spectrum, shape):
    """The inverse of ``_spectrum``, which gave it from this shape."""
    pairs = spectrum.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
    return torch.fft.irfft2(torch.view_as_complex(pairs), s=shape[-2:], norm="ortho")


@torch.no_grad()
def factor_and_shift(norm):
    """What a batch norm multiplies and adds in eval mode, in float64, on the CPU: the variances of published weights reach
    millions, and not every device has float64."""
    weight, bias, mean, variance = (t.cpu().double() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    factor = weight / (variance + norm.eps).sqrt()
    return factor, bias - mean * factor


def _where(x, passed):
    """x where a ReLU let through, else 0; a byte multiplies several times faster than a bool does on a CPU."""
    return x * passed.view(torch.int8)


def _pad(x, n=1):
    return F.pad(x, (n, n, n, n), mode="reflect")


def _unpad(x, n=1):
    """The transpose of ``_pad``, in place: what lies in the border is added to what it was reflected from."""
    for dim in (2, 3):
        for i in range(1, n + 1):
            x.select(dim, n + i).add_(x.select(dim, n - i))
            x.select(dim, -n - 1 - i).add_(x.select(dim, -n - 1 + i))
    return x[:, :, n:-n, n:-n]


class FusedHead(nn.Module):
    """Reflection padding, a convolution and a sigmoid in one function, which keeps for the gradient what it returns alone.

    Args:
        pad, convolution: as ``can_hold`` says; weights are copied.
        precision: of the convolution, e.g. ``torch.bfloat16``; None is that of its weights, in which the sigmoid is taken.

    Shape:
        (B, C, H, W) -> (B, C', H, W), where the convolution takes away what was padded.
    """

    def __init__(self, pad, convolution, precision=None):
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias.detach()
        self.n_pad, self.dtype = pad.padding[0], weight.dtype
        for name, tensor in (("weight", weight), ("bias", bias), ("by_fours", _by_fours(weight)), ("biases", bias.repeat(4))):
            copied = tensor.to(precision or self.dtype, copy=True)
            copied = copied.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else copied
            self.register_buffer(name, copied, persistent=False)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):  # it would pad in float32
            return _Head.apply(x, self)

    def convolve(self, x):
        if x.device.type != "cpu" or x.shape[2] % 2 or x.shape[3] % 2:
            return F.conv2d(x, self.weight, self.bias)
        return _spread(F.conv2d(_gather(x), self.by_fours, self.biases))

    @staticmethod
    def can_hold(pad, convolution, last):
        """Whether three layers can be fused: equal padding to all sides, a plain convolution with an odd kernel, a sigmoid."""
        kinds = type(pad), type(convolution), type(last)
        if kinds != (nn.ReflectionPad2d, nn.Conv2d, nn.Sigmoid) or convolution.bias is None:
            return False
        side = convolution.kernel_size[0]
        plain = convolution.stride == convolution.dilation == (1, 1) and convolution.groups == 1
        plain = plain and convolution.padding == (0, 0) and pad.padding[0] > 0 and len(set(pad.padding)) == 1
        return plain and convolution.kernel_size == (side, side) and side % 2 == 1


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, head):
        prediction = head.convolve(_pad(x.to(head.weight.dtype), head.n_pad)).to(head.dtype).sigmoid_()
        ctx.head, ctx.kind = head, x.dtype
        ctx.save_for_backward(prediction)
        return prediction

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (prediction,) = ctx.saved_tensors
        gradient = (gradient * prediction * (1 - prediction)).to(ctx.head.weight.dtype)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return _unpad(F.conv_transpose2d(gradient, ctx.head.weight), ctx.head.n_pad).to(ctx.kind), None


def _by_fours(weight):
    """(O, C, K, K) -> (4 O, 4 C, (K + 1) / 2, (K + 1) / 2): the weights for pictures as ``_gather`` makes them, K odd."""
    found = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # of the pixel in its four: there the kernel begins
        part = F.pad(weight, (column, 1 - column, row, 1 - row)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        found.append(part.permute(0, 3, 5, 1, 2, 4).flatten(1, 3))  # O, (row, column, C), K / 2, K / 2
    return torch.cat(found)


def _gather(x):
    """(B, C, H, W) -> (B, 4 C, H / 2, W / 2), both channels last: each 2 x 2 pixels as one, in the order row, column, C.

    ``F.pixel_unshuffle`` has another order, and in this memory format it eats up on a CPU what the convolution gains.
    """
    rows = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return rows.transpose(2, 3).flatten(3).permute(0, 3, 1, 2)


def _spread(x):
    """The inverse of ``_gather``."""
    fours = x.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))
    return fours.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
