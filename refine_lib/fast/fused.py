"""LaMa's residual blocks and its last layers with a gradient of their own: the same answer in less time and less memory.

The weights are frozen, so the gradient goes to the featuremap alone and needs nothing of what the convolutions saw; all that is
not linear are ReLUs, so all that it needs are the places where they let through, a byte for each number.

The last convolution, of a few channels at full size, is slow on a CPU for having so few; with each 2 x 2 pixels taken as one of
four times the channels it is the same sum in less than half of the time.
"""

import contextlib
import copy

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.fast.convolutions import Convolution, TransposedConvolution
from refine_lib.fast.frozen import Frozen, factor_and_shift, places, where, without_norm
from refine_lib.fast.spectral import FusedSpectral
from refine_lib.networks.lama import FourierBlock

FEW = 48_000  # numbers in a map up to which torch's gradient of reflection padding is the faster one


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

    def by_block(self):
        """The same as a list of ``FusedBlocks`` of one block each, which share its weights."""
        pairs = zip(self.layers[::2], self.layers[1::2], strict=True)
        parts = [copy.copy(self) for _ in self.layers[::2]]
        for part, pair in zip(parts, pairs, strict=True):
            part._modules = {"layers": nn.ModuleList(pair)}
        return parts

    @staticmethod
    def can_hold(layer):
        """Whether a layer is a block that can be fused."""
        return isinstance(layer, FourierBlock) and layer.conv1.ffc.n_global[0] > 0


# Within a function with a gradient of its own torch goes through autograd at each call all the same, which costs small ones.
_below_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", contextlib.nullcontext)


class _Blocks(torch.autograd.Function):
    """x + layer2(layer1(x)), block after block, with local and global channels together."""

    @staticmethod
    def forward(ctx, local, global_, layers):
        x, kept = _together(local, global_), []
        with _below_autograd():
            for first, second in zip(layers[::2], layers[1::2], strict=True):
                between, passed = first.forward(x)
                change, passed_2 = second.forward(between)
                x.add_(change)
                if any(ctx.needs_input_grad):
                    kept += [*passed, *passed_2]
        ctx.layers, ctx.n_local = layers, local.shape[1]
        ctx.save_for_backward(*kept)
        return x[:, : ctx.n_local], x[:, ctx.n_local :]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, local, global_):
        gradient, kept = _together(local, global_), list(ctx.saved_tensors)
        with _below_autograd():
            for first, second in zip(ctx.layers[-2::-2], ctx.layers[::-2], strict=True):
                *kept, a, b, c = kept
                change = second.backward(gradient, (a, b, c))
                *kept, a, b, c = kept
                gradient.add_(first.backward(change, (a, b, c)))
        return gradient[:, : ctx.n_local], gradient[:, ctx.n_local :], None


class FusedLayer(Frozen):
    """A ``FourierLayer`` without batch norms, with the convolutions to local channels in one.

    ``backward`` takes the gradient from its output to its input; ``passed`` says where the ReLUs let through.
    """

    def __init__(self, layer, precision=None):
        super().__init__()
        ffc = layer.ffc
        self.n_local = ffc.convl2l.out_channels
        self.n_both = self.n_local, ffc.convl2g.out_channels
        self.dtype = precision or ffc.convl2l.weight.dtype  # of the convolutions and what is between layers
        local, global_ = factor_and_shift(layer.bn_l), factor_and_shift(layer.bn_g)
        to_local = torch.cat([ffc.convl2l.weight, ffc.convg2l.weight], dim=1)
        self.to_local = Convolution(*without_norm(to_local, *local, self.dtype))
        self.to_global = Convolution(*without_norm(ffc.convl2g.weight, *global_, self.dtype))
        self.spectral = FusedSpectral(ffc.convg2g, layer.bn_g, precision)
        self.at_hand()

    def forward(self, x):
        x = x.to(self.dtype)
        padded = _pad(x)
        local, global_ = self.to_local.forward(padded), self.to_global.forward(padded.narrow(1, 0, self.n_local))
        passed = self.spectral.add(global_, x.split(self.n_both, dim=1)[1])
        out = torch.cat([local, global_], dim=1).relu_()
        return out, (*passed, places(out))

    def backward(self, gradient, passed):
        *passed, out = passed
        local, global_ = where(gradient, out).to(self.dtype).split(self.n_both, dim=1)
        to_both = self.to_local.back(local)
        to_both.narrow(1, 0, self.n_local).add_(self.to_global.back(global_))
        to_both = _unpad(to_both).contiguous(memory_format=torch.channels_last)
        self.spectral.add_back(to_both.split(self.n_both, dim=1)[1], global_, passed)
        return to_both


def _together(local, global_):
    return torch.cat([local, global_], dim=1).contiguous(memory_format=torch.channels_last)


def _pad(x, n=1):
    return F.pad(x, (n, n, n, n), mode="reflect")


def _unpad(x, n=1):
    """The transpose of ``_pad``: what lies in the border is added to what it was reflected from; of a large map in place."""
    if x.is_cpu and x.numel() <= FEW:
        return torch.ops.aten.reflection_pad2d_backward(x, x[:, :, n:-n, n:-n], (n, n, n, n))
    for dim in (2, 3):
        for border, inside in ((0, n + 1), (x.shape[dim] - n, x.shape[dim] - 2 * n - 1)):
            seen = x.narrow(dim, border, n)
            x.narrow(dim, inside, n).add_(seen.flip(dim) if n > 1 else seen)
    return x[:, :, n:-n, n:-n]


class FusedDecoder(nn.Module):
    """What makes the picture, in one function: transposed convolutions that enlarge a map, each with a ReLU behind it, and the
    head: reflection padding, a convolution, a sigmoid. For the gradient it keeps where the ReLUs let through, a byte for each
    number, and what it returns.

    Args:
        layers: from where ``begins_at`` says to their end; weights are copied, batch norms folded.
        precision: of the convolutions, e.g. ``torch.bfloat16``; None is that of the weights, in which the sigmoid is taken.

    Shape:
        (B, C, H, W) -> (B, C', n H, n W), where the layers enlarge a map n times and the head takes away what was padded.
    """

    def __init__(self, layers, precision=None):
        super().__init__()
        *enlarging, pad, convolution, _ = layers
        pairs = zip(enlarging[::3], enlarging[1::3], strict=True)
        self.enlarging = nn.ModuleList(Enlarging(transposed, norm, precision) for transposed, norm in pairs)
        self.head = Head(pad, convolution, precision)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):  # it would pad in float32
            return _Decoder.apply(x, list(self.enlarging), self.head)

    @staticmethod
    def begins_at(layers, first=0):
        """The index of the layer, ``first`` or behind it, from which on they can be fused; None where the head cannot be."""
        if len(layers) - first < 3 or not Head.can_hold(*layers[-3:]):
            return None
        at = len(layers) - 3
        while at - 3 >= first and Enlarging.can_hold(*layers[at - 3 : at]):
            at -= 3
        return at


class _Decoder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, enlarging, head):
        ctx.enlarging, ctx.head, ctx.kind, kept = enlarging, head, x.dtype, []
        with _below_autograd():
            for layer in enlarging:
                x = layer.forward(x.to(layer.bias.dtype))
                if any(ctx.needs_input_grad):
                    kept.append(places(x))
            x = head.pad(x)  # from here on what it was made from is not held
            prediction = head.forward(x)
        ctx.save_for_backward(*kept, prediction)
        return prediction

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        *kept, prediction = ctx.saved_tensors
        with _below_autograd():
            gradient = ctx.head.back(gradient, prediction)
            for layer, passed in zip(reversed(ctx.enlarging), reversed(kept), strict=True):
                gradient = where(gradient, passed)
                gradient = layer.back(gradient)
        return gradient.to(ctx.kind), None, None


class Enlarging(TransposedConvolution):
    """A transposed convolution, with a batch norm or without, and a ReLU; ``back`` takes the gradient from before the ReLU."""

    def __init__(self, transposed, norm, precision=None):
        weight, dtype = transposed.weight.transpose(0, 1), precision or transposed.weight.dtype
        shift = torch.zeros(len(weight)) if transposed.bias is None else transposed.bias.cpu()
        factor, behind = factor_and_shift(norm) if isinstance(norm, nn.BatchNorm2d) else (torch.ones(len(weight)), 0)
        weight, bias = without_norm(weight, factor.double(), shift.double() * factor + behind, dtype)
        super().__init__(weight.transpose(0, 1), bias, transposed.stride, transposed.padding, transposed.output_padding)

    @staticmethod
    def can_hold(transposed, norm, last):
        """Whether three layers are of these kinds."""
        if type(transposed) is not nn.ConvTranspose2d or type(last) is not nn.ReLU or transposed.groups > 1:
            return False
        is_norm = type(norm) is nn.BatchNorm2d and norm.weight is not None and norm.running_var is not None
        return transposed.dilation == (1, 1) and (is_norm or type(norm) is nn.Identity)


class Head(Frozen):
    """Reflection padding, a convolution and a sigmoid; ``back`` takes the gradient the other way."""

    def __init__(self, pad, convolution, precision=None):
        super().__init__()
        self.n_pad, self.wide = pad.padding[0], convolution.weight.dtype
        self.dtype = precision or self.wide
        weight, bias = (t.detach().to(self.dtype, copy=True) for t in (convolution.weight, convolution.bias))
        self.convolution, self.by_fours = Convolution(weight, bias), Convolution(_by_fours(weight), bias.repeat(4))
        self.at_hand()

    def pad(self, x):
        return _pad(x.to(self.dtype), self.n_pad)

    def forward(self, padded):
        if padded.is_cpu and padded.shape[2] % 2 == padded.shape[3] % 2 == 0:
            seen = _spread(self.by_fours.forward(_gather(padded)))
        else:
            seen = self.convolution.forward(padded)
        return seen.to(self.wide).sigmoid_()

    def back(self, gradient, prediction):
        gradient = torch.ops.aten.sigmoid_backward(gradient, prediction)
        return _unpad(self.convolution.back(gradient.to(self.dtype, memory_format=torch.channels_last)), self.n_pad)

    @staticmethod
    def can_hold(pad, convolution, last):
        """Whether three layers are such: equal padding to all sides, a plain convolution with an odd kernel, a sigmoid."""
        kinds = type(pad), type(convolution), type(last)
        if kinds != (nn.ReflectionPad2d, nn.Conv2d, nn.Sigmoid) or convolution.bias is None:
            return False
        side = convolution.kernel_size[0]
        plain = convolution.stride == convolution.dilation == (1, 1) and convolution.groups == 1
        plain = plain and convolution.padding == (0, 0) and pad.padding[0] > 0 and len(set(pad.padding)) == 1
        return plain and convolution.kernel_size == (side, side) and side % 2 == 1


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
