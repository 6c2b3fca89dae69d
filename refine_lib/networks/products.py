"""Convolutions whose weights stay as they are, and their transposes, by whichever of torch's functions is the fastest on a CPU.

torch leaves a CPU's convolutions to oneDNN, and its products of float32 matrices to MKL. What oneDNN does better, and torch
does not ask it for by itself, is reached by functions that torch does not document: each is tried once in a process, and
torch's usual one is taken where it is missing, or is another.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

LARGE = 2**15  # numbers in a map from which oneDNN's products pay, and those in half the bits
SMALL = 20480  # numbers in a map up to which torch takes its own convolution in place of oneDNN's ...
TINY = 100  # ... which is the slower one for maps of more pixels than these
LIGHT = 2**16  # numbers in a weight up to which a convolution takes so little that the order of its weight counts
PLAIN = (1, 1), (1, 1), 1  # stride, dilation, groups


class Frozen(nn.Module):
    """A module whose tensors and modules stay what they are, and so are plain attributes as well: a module looks up its own
    ones in half a microsecond each, and a small picture's refinement does little but such things."""

    def at_hand(self):
        """To be called when all of them are there."""
        self.__dict__.update(self._buffers | self._modules)

    def _apply(self, function, recurse=True):
        super()._apply(function, recurse)
        self.at_hand()
        return self


class Convolution(Frozen):
    """A convolution without padding, and its transpose.

    On a CPU oneDNN wants the weight in an order of its own, into which torch's functions bring it anew at each call. A light
    one in half the bits is kept in that order, once for each way; in float32 that would take more memory than it is worth.

    Args:
        weight: (C', C, K, L).
        bias: (C',).
    """

    def __init__(self, weight, bias=None):
        super().__init__()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.border = tuple(side - 1 for side in weight.shape[2:])
        self.at_hand()

    def at_hand(self):
        super().at_hand()
        is_light = self.weight.is_cpu and self.weight.numel() <= LIGHT and self.weight.dtype == torch.bfloat16
        self._is_to_be_ordered = is_light and _has_ordered_convolutions()
        self._ordered = self._ordered_back = None

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H - K + 1, W - L + 1)."""
        if self._is_to_be_ordered:
            self._order()
        if self._ordered is not None:
            return _ordered_convolution()(x, self._ordered, self.bias, (0, 0), *PLAIN, "none", [], "")
        if _would_be_slow(x):
            return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), *PLAIN)
        return F.conv2d(x, self.weight, self.bias)

    def back(self, x):
        """The transpose, without a bias: (B, C', H, W) -> (B, C, H + K - 1, W + L - 1)."""
        if self._is_to_be_ordered:
            self._order()
        if self._ordered is not None:
            return _ordered_convolution()(x, self._ordered_back, None, self.border, *PLAIN, "none", [], "")
        if _would_be_slow(x):
            return torch.mkldnn_convolution(x, self._turned(), None, self.border, *PLAIN)
        return F.conv_transpose2d(x, self.weight)

    def _turned(self):
        """The weight of which a convolution over a border of zeros is the transpose."""
        return self.weight.transpose(0, 1).flip(2, 3)

    def _order(self):
        self._ordered, self._ordered_back = _in_order(self.weight, (0, 0)), _in_order(self._turned(), self.border)
        self._is_to_be_ordered = False
        self._buffers["weight"] = self.__dict__["weight"] = None

    def _apply(self, function, recurse=True):
        self.__dict__.update(self.__getstate__())
        return super()._apply(function, recurse)

    def __getstate__(self):
        """With the weight as it was: in oneDNN's order it can neither be moved nor copied nor stored."""
        state = {**self.__dict__, "_ordered": None, "_ordered_back": None}
        if self._ordered is not None:
            weight = self._ordered.to_dense().contiguous(memory_format=torch.channels_last)
            state["_buffers"] = {**self._buffers, "weight": weight}
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self.at_hand()


class Product(Frozen):
    """A 1x1 convolution, and its transpose, as products of matrices: these take maps in either memory format without a copy.

    Args:
        weight: (C', C).
        bias: (C',).
        precision: of what is computed of large maps, e.g. ``torch.bfloat16``; small ones, which wait for calls, and all
            results are in the type of the weight. None: all of it.
    """

    def __init__(self, weight, bias=None, precision=None):
        super().__init__()
        bias = None if bias is None else bias[:, None]
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("rounded", weight.to(precision or weight.dtype), persistent=False)
        self.register_buffer("rounded_bias", None if bias is None else bias.to(self.rounded.dtype), persistent=False)
        self.at_hand()

    def forward(self, x):
        """(B, C, H, W) of any memory format and type -> (B, C', H, W), contiguous."""
        if x.numel() < LARGE * len(x):
            return _product(self.weight, x.to(self.weight.dtype), self.bias)
        return _product(self.rounded, x.to(self.rounded.dtype), self.rounded_bias).to(self.weight.dtype)

    def back(self, x):
        """The transpose, without the bias: (B, C', H, W) -> (B, C, H, W), contiguous."""
        if x.numel() < LARGE * len(x):
            return _product(self.weight.mT, x.to(self.weight.dtype))
        return _product(self.rounded.mT, x.to(self.rounded.dtype)).to(self.weight.dtype)

    def add(self, to, x):
        """Adds the product, without a bias, to what is in ``precision``: (B, C', H, W), of any memory format."""
        _add_product(to, self.rounded, x.to(self.rounded.dtype))

    def add_back(self, to, x):
        """Adds the transpose."""
        _add_product(to, self.rounded.mT, x.to(self.rounded.dtype))


def _product(weight, x, bias=None):
    if not x.is_cpu:
        return F.conv2d(x, weight[..., None, None], None if bias is None else bias[:, 0]).contiguous()
    if len(x) > 1:
        return torch.cat([_product(weight, one, bias) for one in x.split(1)])
    return _times(weight, x.flatten(2).squeeze(0), bias).view(1, -1, *x.shape[2:])


def _add_product(to, weight, x):
    if not x.is_cpu:
        to.add_(F.conv2d(x, weight[..., None, None]))
        return
    for total, one in zip(to.unbind(), x.unbind(), strict=True):
        total.view(len(total), -1).addmm_(weight, one.flatten(1))


def _times(a, b, bias):
    multiply = _product_of_onednn() if a.dtype == torch.float32 and b.numel() >= LARGE else None
    if multiply is None:
        return a @ b if bias is None else torch.addmm(bias, a, b)
    rows = b.mT
    dense = rows.is_contiguous() or b.is_contiguous()  # of a slice it takes a reference, a thousand times slower
    made = multiply(a, rows if dense else rows.contiguous(), None, "none", [], "")
    return made if bias is None else made.add_(bias)


def _would_be_slow(x):
    """Whether torch would by itself take a convolution of its own in place of oneDNN's, which is the faster one."""
    small = x.numel() <= SMALL and len(x) == 1 and x.shape[2] * x.shape[3] > TINY
    return small and x.is_cpu and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


@functools.cache
def _has_ordered_convolutions():
    """Whether this torch, on this CPU, convolves in bfloat16 with weights in oneDNN's order, and rightly."""
    x, weight = torch.arange(75.0).view(1, 3, 5, 5).bfloat16(), torch.arange(54.0).view(2, 3, 3, 3).bfloat16()
    try:
        made = _ordered_convolution()(x, _in_order(weight, (0, 0)), None, (0, 0), *PLAIN, "none", [], "")
        is_fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return is_fast and torch.allclose(made, F.conv2d(x, weight), rtol=0.02)


def _ordered_convolution():
    return torch.ops.mkldnn._convolution_pointwise


def _in_order(weight, padding):
    return torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, *PLAIN)


@functools.cache
def _product_of_onednn():
    """oneDNN's product of float32 matrices, a and the transpose of b; None where this torch has none that works.

    MKL's takes twice the time on CPUs of another maker.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    a, b = torch.arange(12.0).view(3, 4), torch.arange(20.0).view(5, 4)
    try:
        multiply = torch.ops.mkldnn._linear_pointwise
        return multiply if torch.allclose(multiply(a, b, None, "none", [], ""), a @ b.mT, rtol=1e-5) else None
    except (AttributeError, RuntimeError, TypeError):
        return None
