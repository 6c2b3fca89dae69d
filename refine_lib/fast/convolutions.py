"""Convolutions whose weights stay as they are, and their transposes, by whichever of torch's functions is the fastest on a CPU.

torch leaves a CPU's convolutions to oneDNN. What oneDNN does better than torch asks it for is reached by functions that torch
does not document: they are tried once in a process, and torch's usual ones are taken where they are missing, or are others.
"""

import functools

import torch
import torch.nn.functional as F

from refine_lib.fast.frozen import Frozen

SMALL = 20480  # numbers in a map up to which torch takes its own convolution in place of oneDNN's ...
TINY = 100  # ... which is the slower one for maps of more pixels than these
LIGHT = 2**17  # numbers in a weight up to which a convolution takes so little that the order of its weight counts
ONCE = (1, 1), (1, 1), 1  # stride, dilation, groups


class Ordered(Frozen):
    """A convolution with a weight that on a CPU oneDNN wants in an order of its own, and its transpose.

    torch's functions bring the weight into that order anew at each call. A light one in half the bits is kept in it, once for
    each way; in float32 that would take more memory than it is worth.

    Args:
        weight: in either way's shape.
        bias: of the way forward.
    """

    def __init__(self, weight, bias=None):
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def at_hand(self):
        super().at_hand()
        is_light = self.weight.is_cpu and self.weight.numel() <= LIGHT and self.weight.dtype == torch.bfloat16
        self._is_to_be_ordered = is_light and has_ordered_convolutions()
        self._ordered = None

    def ordered(self):
        """The weight in its order for both ways, that of a plain convolution first; None where it is not kept so."""
        if self._is_to_be_ordered:
            self._ordered = self.in_order()
            self._is_to_be_ordered = False  # last, for another thread may ask
        return self._ordered

    def in_order(self):
        """What ``ordered`` gives, made from the weight."""
        raise NotImplementedError

    def __getstate__(self):
        return {**self.__dict__, "_ordered": None}  # it can neither be moved nor copied nor stored

    def __setstate__(self, state):
        super().__setstate__(state)
        self.at_hand()


class Convolution(Ordered):
    """A convolution without padding, and its transpose.

    Args:
        weight: (C', C, K, L).
        bias: (C',).
    """

    def __init__(self, weight, bias=None):
        super().__init__(weight, bias)
        self.border = tuple(side - 1 for side in weight.shape[2:])
        self.at_hand()

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H - K + 1, W - L + 1)."""
        ordered = self.ordered()
        if ordered is not None:
            return convolve_ordered(x, ordered[0], self.bias, (0, 0))
        if _would_be_slow(x):
            return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), *ONCE)
        return F.conv2d(x, self.weight, self.bias)

    def back(self, x):
        """The transpose, without a bias: (B, C', H, W) -> (B, C, H + K - 1, W + L - 1)."""
        ordered = self.ordered()
        if ordered is not None:
            return convolve_ordered(x, ordered[1], None, self.border)
        if _would_be_slow(x):
            return torch.mkldnn_convolution(x, self._turned(), None, self.border, *ONCE)
        return F.conv_transpose2d(x, self.weight)

    def _turned(self):
        """The weight of which a convolution over a border of zeros is the transpose."""
        return self.weight.transpose(0, 1).flip(2, 3)

    def in_order(self):
        return order(self.weight, (0, 0)), order(self._turned(), self.border)


class TransposedConvolution(Ordered):
    """A transposed convolution with a ReLU, and the transpose of what is before the ReLU, a convolution.

    Args:
        weight: (C, C', K, L).
        bias: (C',).
        stride, padding, output_padding: as in ``nn.ConvTranspose2d``.
    """

    def __init__(self, weight, bias, stride, padding, output_padding):
        super().__init__(weight, bias)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.at_hand()

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H', W')."""
        ordered = self.ordered()
        if ordered is not None:
            return transpose_ordered(x, ordered[1], self.bias, self.padding, self.output_padding, self.stride)
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding).relu_()

    def back(self, x):
        """(B, C', H', W') -> (B, C, H, W)."""
        ordered = self.ordered()
        if ordered is not None:
            return convolve_ordered(x, ordered[0], None, self.padding, self.stride)
        return F.conv2d(x, self.weight, None, self.stride, self.padding)

    def in_order(self):
        transposed = order_transposed(self.weight, self.padding, self.output_padding, self.stride)
        return order(self.weight, self.padding, self.stride), transposed


def _would_be_slow(x):
    """Whether torch would by itself take a convolution of its own in place of oneDNN's, which is the faster one."""
    small = x.numel() <= SMALL and len(x) == 1 and x.shape[2] * x.shape[3] > TINY
    return small and x.is_cpu and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


@functools.cache
def has_ordered_convolutions():
    """Whether this torch, on this CPU, convolves in bfloat16 with weights in oneDNN's order, and rightly."""
    x, weight = torch.arange(75.0).view(1, 3, 5, 5).bfloat16(), torch.arange(54.0).view(2, 3, 3, 3).bfloat16()
    wanted, places = F.conv2d(x, weight), ((1, 1), (1, 1), (2, 2))
    enlarged = F.conv_transpose2d(wanted, weight, stride=2, padding=1, output_padding=1)
    try:
        found = convolve_ordered(x, order(weight, (0, 0)), None, (0, 0))
        found_enlarged = transpose_ordered(wanted, order_transposed(weight, *places), None, *places)
        is_fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError, TypeError):
        return False
    pairs = (found, wanted), (found_enlarged, enlarged)
    return is_fast and all(torch.allclose(*pair, rtol=0.02) for pair in pairs)


def order(weight, padding, stride=(1, 1)):
    """A convolution's weight in oneDNN's order."""
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, stride, *ONCE[1:])


def order_transposed(weight, padding, output_padding, stride):
    """A transposed convolution's weight in oneDNN's order."""
    reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
    return reorder(weight, padding, output_padding, stride, *ONCE[1:], [1, len(weight), 8, 8])  # of a map of any size


def convolve_ordered(x, weight, bias, padding, stride=(1, 1)):
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, *ONCE[1:], "none", [], "")


def transpose_ordered(x, weight, bias, padding, output_padding, stride):
    """With a ReLU."""
    transpose = torch.ops.mkldnn._convolution_transpose_pointwise
    return transpose(x, weight, bias, padding, output_padding, stride, *ONCE[1:], "relu", [], "")
