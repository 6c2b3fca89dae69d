"""LaMa's residual blocks and its last layers with a gradient of their own: the same answer in less time and less memory.

The weights are frozen, so the gradient goes to the featuremap alone and needs nothing of what the convolutions saw; all that is
not linear are ReLUs, so all that it needs are the places where they let through, a byte for each number.

The last convolution gives few channels at full size, which is slow on a CPU. A convolution that gives each 2 x 2 pixels as one
of four times the channels is the same sum in less than half of the time.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.fast.folding import can_fold, folded
from refine_lib.fast.frozen import Convolution, Enlarging, places, where
from refine_lib.fast.spectral import FusedSpectral
from refine_lib.networks.lama import FourierBlock, FourierLayer


class FusedBlocks(nn.Module):
    """A run of ``FourierBlock`` in one function.

    Args:
        blocks: with local and global channels, in eval mode; their weights are copied.
        precision: of convolutions and products, e.g. ``torch.bfloat16``; None is that of the weights. Fourier transforms and
            the sums that run through all blocks keep float32 (float64 where the weights have it).

    Shape:
        (local, global) -> (local, global), as a ``FourierBlock``.
    """

    def __init__(self, blocks: Iterable[FourierBlock], precision: torch.dtype | None = None):
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


class _Blocks(torch.autograd.Function):
    """x + layer2(layer1(x)), block after block, with local and global channels together.

    The layers write to the same memory in turn. The system clears memory before it gives it to new tensors, and where they are
    large that takes as long as the arithmetic.
    """

    @staticmethod
    def forward(ctx, local, global_, layers):
        x, kept = _together(local, global_), []
        room, padded = _room_for(x, layers), _pad(x.to(layers[0].dtype))
        for first, second in zip(layers[::2], layers[1::2], strict=True):
            between, passed = first(x, room[0], padded)
            change, passed_2 = second(between, room[1], padded)
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
        room = _room_for(gradient, ctx.layers)
        for first, second in zip(ctx.layers[-2::-2], ctx.layers[::-2], strict=True):
            *kept, a, b, c = kept
            change = second.backward(gradient, (a, b, c), *room)
            *kept, a, b, c = kept
            gradient.add_(first.backward(change, (a, b, c), *room[::-1]))
        return gradient[:, : ctx.n_local], gradient[:, ctx.n_local :], None


class FusedLayer(nn.Module):
    """A ``FourierLayer`` without batch norms, with the convolutions to local channels in one.

    ``backward`` takes the gradient from its output to its input; ``passed`` says where the ReLUs let through.
    """

    def __init__(self, layer: FourierLayer, precision: torch.dtype | None = None):
        super().__init__()
        ffc = folded(layer).ffc
        self.n_local = ffc.convl2l.out_channels
        self.n_both = self.n_local, ffc.convl2g.out_channels
        self.dtype = precision or ffc.convl2l.weight.dtype  # of the convolutions and what is between layers
        to_local = torch.cat([ffc.convl2l.weight, ffc.convg2l.weight], dim=1)
        self.to_local = Convolution(to_local, ffc.convl2l.bias, precision)
        self.to_global = Convolution(ffc.convl2g.weight, ffc.convl2g.bias, precision)
        self.spectral = FusedSpectral(ffc.convg2g, precision)

    def forward(self, x, room, padded):
        """What the layer gives, written to ``room``, and where its ReLUs let through; ``padded`` is written over."""
        x = x.to(self.dtype)
        torch.ops.aten.reflection_pad2d.out(x, [1] * 4, out=padded)
        local, global_ = self.to_local(padded), self.to_global(padded.narrow(1, 0, self.n_local))
        passed = self.spectral.add(global_, x.split(self.n_both, dim=1)[1])
        out = torch.cat(
            [local, global_], dim=1, out=room if room.element_size() > 2 else None
        ).relu_()  # as ``places`` keeps them
        return out, (*passed, places(out))

    def backward(self, gradient, passed, masked, to_both):
        """The gradient by the layer's input, written to ``to_both``; ``masked`` is written over, and may be the gradient."""
        squeezed, spectrum, out = passed
        local, global_ = where(gradient, out, out=masked).to(self.dtype).split(self.n_both, dim=1)
        to_padded = self.to_local.back(local)
        to_padded.narrow(1, 0, self.n_local).add_(self.to_global.back(global_))
        to_both.copy_(_unpad(to_padded))
        self.spectral.add_back(to_both.split(self.n_both, dim=1)[1], global_, (squeezed, spectrum))
        return to_both


def _together(local, global_):
    return torch.cat([local, global_], dim=1).contiguous(memory_format=torch.channels_last)


def _room_for(x, layers):
    """Two tensors like x that layers write to."""
    return [torch.empty_like(x, dtype=layers[0].dtype) for _ in range(2)]


def _pad(x, n=1):
    return F.pad(x, (n, n, n, n), mode="reflect")


def _unpad(x, n=1, dims=(2, 3)):
    """The transpose of ``_pad``, in place: what lies in the border is added to what it was reflected from."""
    for dim in dims:
        for border, inside in ((0, n + 1), (x.shape[dim] - n, x.shape[dim] - 2 * n - 1)):
            x.narrow(dim, inside, n).add_(x.narrow(dim, border, n).flip(dim))
        x = x.narrow(dim, n, x.shape[dim] - 2 * n)
    return x


def _borders(x, n):
    """Views of the n pixels at the top, at the bottom, at the left and at the right."""
    return x[:, :, :n], x[:, :, -n:], x[..., :n], x[..., -n:]


class FusedDecoder(nn.Module):
    """The last layers of a network, which make the picture, in one function.

    They are transposed convolutions that enlarge a map, each with a ReLU behind it, and the head: reflection padding, a
    convolution, a sigmoid. For the gradient it keeps where the ReLUs let through, a byte for each number, and what it returns.

    Args:
        layers: from where ``begins_at`` says to their end, in eval mode; their weights are copied.
        precision: of the convolutions, e.g. ``torch.bfloat16``; None is that of the weights, in which the sigmoid is taken.

    Shape:
        (B, C, H, W) -> (B, C', n H, n W), where the layers enlarge a map n times and the head takes away what was padded.
    """

    def __init__(self, layers: Iterable[nn.Module], precision: torch.dtype | None = None):
        super().__init__()
        parts: list[Any] = list(folded(nn.Sequential(*layers)))
        *enlarging, pad, convolution, _ = parts
        self.enlarging = nn.ModuleList(Enlarging(transposed, precision) for transposed in enlarging[::3])
        self.head = Head(pad, convolution, precision)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it would pad in float32
            return _Decoder.apply(x, list(self.enlarging), self.head)

    @staticmethod
    def begins_at(layers: Sequence[nn.Module], first: int = 0) -> int | None:
        """The index of the layer, ``first`` or behind it, from which on they can be fused; None where the head cannot be."""
        if len(layers) - first < 3 or not Head.can_hold(*layers[-3:]):
            return None
        at = len(layers) - 3
        while at - 3 >= first and _enlarges(*layers[at - 3 : at]):
            at -= 3
        return at


def _enlarges(transposed, norm, last):
    """Whether three layers are a plain transposed convolution, a batch norm that can be folded or was, and a ReLU."""
    if type(transposed) is not nn.ConvTranspose2d or type(last) is not nn.ReLU or transposed.groups > 1:
        return False
    return transposed.dilation == (1, 1) and (type(norm) is nn.Identity or can_fold(transposed, norm))


class _Decoder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, enlarging, head):
        ctx.enlarging, ctx.head, ctx.kind, kept = enlarging, head, x.dtype, []
        for layer in enlarging:
            x = layer(x.to(layer.weight.dtype))
            if any(ctx.needs_input_grad):
                kept.append(places(x))
        prediction = head(x)
        ctx.save_for_backward(*kept, prediction)
        return prediction

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        *kept, prediction = ctx.saved_tensors
        gradient = ctx.head.back(gradient, prediction)
        for layer, passed in zip(reversed(ctx.enlarging), reversed(kept), strict=True):
            gradient = layer.back(where(gradient, passed, out=gradient))
        return gradient.to(ctx.kind), None, None


class Head(nn.Module):
    """Reflection padding, a convolution and a sigmoid; ``back`` takes the gradient the other way.

    A padded copy of a map at full size takes memory and time, and only the pixels at the border see its padding. So the
    convolution pads with zeros, and the pixels at the border are computed once more from strips that are padded by reflection.
    """

    def __init__(self, pad: nn.ReflectionPad2d, convolution: nn.Conv2d, precision: torch.dtype | None = None):
        super().__init__()
        assert convolution.bias is not None  # as begins_at has seen
        weight, bias = convolution.weight.detach(), convolution.bias.detach()
        self.n_pad, self.wide, self.dtype = pad.padding[0], weight.dtype, precision or weight.dtype
        self.n_seen = max(weight.shape[-1] - 1, self.n_pad + 1)  # pixels from the border on that those at the border see
        self.convolution = Convolution(weight, bias, precision)
        self.by_fours = Convolution(_by_fours(weight), bias.repeat_interleave(4), precision)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        x, n = x.to(self.dtype), self.n_pad
        seen = self._convolved(x, padding=n)
        for i, strip in enumerate(_borders(x, self.n_seen)):
            _borders(seen, n)[i].copy_(_borders(self._convolved(_pad(strip, n)), n)[i])
        return seen.to(self.wide).sigmoid_()

    def _convolved(self, x, padding=0):
        height, width = (side + 2 * padding - self.convolution.weight.shape[-1] + 1 for side in x.shape[2:])
        if x.is_cpu and height % 2 == width % 2 == 0:
            return F.pixel_shuffle(self.by_fours(x, padding, stride=2), 2)
        return self.convolution(x, padding)

    def back(self, gradient: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """The gradient by x, given that by what ``forward`` gave, and what it gave."""
        gradient = torch.ops.aten.sigmoid_backward(gradient, prediction)
        gradient, n = gradient.to(self.dtype, memory_format=torch.channels_last), self.n_pad
        to_x = self.convolution.back(gradient, padding=n)
        for i, strip in enumerate(_borders(gradient, n)):
            to_padding = _borders(self.convolution.back(strip), n)[i]
            to_padding = _unpad(to_padding, n, [3]) if i < 2 else to_padding[:, :, n:-n]
            seen = to_x[..., 1:-1] if i > 1 else to_x[:, :, 1:-1]  # the outermost pixels are not reflected
            _borders(seen, n)[i].add_(to_padding.flip(3 if i > 1 else 2))
        return to_x

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
    """(O, C, K, K) -> (4 O, C, K + 1, K + 1): a convolution with stride 2 that gives each 2 x 2 pixels as channels of one."""
    fours = [F.pad(weight, (column, 1 - column, row, 1 - row)) for row in (0, 1) for column in (0, 1)]
    return torch.stack(fours, dim=1).flatten(0, 1)
