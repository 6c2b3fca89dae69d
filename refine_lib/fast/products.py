"""Products of matrices in place of 1x1 convolutions, by whichever of torch's functions is the fastest on a CPU.

torch leaves a CPU's products of float32 matrices to MKL. What oneDNN does better is reached by a function that torch does not
document: it is tried once in a process, and torch's usual one is taken where it is missing, or is another.
"""

import functools

import torch
import torch.nn.functional as F

from refine_lib.fast.frozen import Frozen

LARGE = 2**15  # numbers in a map from which oneDNN's products in float32 pay, and those in half the bits


class Product(Frozen):
    """A 1x1 convolution, and its transpose, as products of matrices: these take maps in either memory format without a copy.

    What ends in ``rows`` works on rows, (pixels, C), as ``rows_of`` gives them, in place of maps (B, C, H, W).

    Args:
        weight: (C', C).
        bias: (C',).
        precision: of what is computed, e.g. ``torch.bfloat16``, but for few rows that are given in the type of the weight:
            these wait for calls. None is that type, in which all results are.
    """

    def __init__(self, weight, bias=None, precision=None):
        super().__init__()
        precision = precision or weight.dtype
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("rounded", weight.to(precision), persistent=False)
        self.register_buffer("rounded_bias", None if bias is None else bias.to(precision), persistent=False)
        self.at_hand()

    def at_hand(self):
        super().at_hand()
        self.weight_back, self.rounded_back = self.weight.mT, self.rounded.mT

    def forward(self, x):
        """(B, C, H, W) of any memory format and type -> (B, C', H, W), contiguous."""
        return _product(self.rounded, x.to(self.rounded.dtype), self.rounded_bias).to(self.weight.dtype)

    def back(self, x):
        """The transpose, without the bias: (B, C', H, W) -> (B, C, H, W), contiguous."""
        return _product(self.rounded_back, x.to(self.rounded.dtype)).to(self.weight.dtype)

    def add(self, to, x):
        """Adds the product, without a bias, to what is in ``precision``: (B, C', H, W), of any memory format."""
        _add_product(to, self.rounded, x.to(self.rounded.dtype))

    def add_back(self, to, x):
        """Adds the transpose."""
        _add_product(to, self.rounded_back, x.to(self.rounded.dtype))

    def forward_rows(self, rows, relu=False):
        """(pixels, C) -> (pixels, C')."""
        if rows.dtype == self.weight.dtype and rows.numel() < LARGE:
            return linear(rows, self.weight, self.bias, relu)
        return linear(rows.to(self.rounded.dtype), self.rounded, self.rounded_bias, relu).to(self.weight.dtype)

    def back_rows(self, rows):
        if rows.dtype == self.weight.dtype and rows.numel() < LARGE:
            return linear(rows, self.weight_back)
        return linear(rows.to(self.rounded.dtype), self.rounded_back).to(self.weight.dtype)

    def add_rows(self, to, rows):
        to.addmm_(rows.to(self.rounded.dtype), self.rounded_back)

    def add_back_rows(self, to, rows):
        to.addmm_(rows.to(self.rounded.dtype), self.rounded)


def rows_of(x):
    """A view of a map that is channels last, a row for each pixel: (B, C, H, W) -> (B H W, C)."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _product(weight, x, bias=None):
    if not x.is_cpu:
        return F.conv2d(x, weight[..., None, None], bias).contiguous()
    if len(x) > 1:
        return torch.cat([_product(weight, one, bias) for one in x.split(1)])
    bias = None if bias is None else bias[:, None]
    return times(weight, x.flatten(2).squeeze(0), bias).view(1, -1, *x.shape[2:])


def _add_product(to, weight, x):
    if not x.is_cpu:
        to.add_(F.conv2d(x, weight[..., None, None]))
        return
    for total, one in zip(to.unbind(), x.unbind(), strict=True):
        total.view(len(total), -1).addmm_(weight, one.flatten(1))


def times(a, b, bias=None):
    """``a @ b + bias`` of matrices."""
    is_large = a.dtype == torch.float32 and b.numel() >= LARGE
    multiply = _product_of_onednn(a.dtype) if is_large else None
    if multiply is None:
        return a @ b if bias is None else torch.addmm(bias, a, b)
    rows = b.mT
    dense = rows.is_contiguous() or b.is_contiguous()  # of a slice it takes a reference, a thousand times slower
    made = multiply(a, rows if dense else rows.contiguous(), None, "none", [], "")
    return made if bias is None else made.add_(bias)


def linear(x, weight, bias=None, relu=False):
    """``x @ weight.T + bias`` of rows, and a ReLU."""
    multiply = _product_of_onednn(x.dtype) if x.dtype == torch.bfloat16 else None  # in float32 it takes more memory
    if multiply is not None:
        return multiply(x, weight, bias, "relu" if relu else "none", [], "")
    made = x @ weight.mT if bias is None else torch.addmm(bias, x, weight.mT)
    return made.relu_() if relu else made


@functools.cache
def _product_of_onednn(dtype):
    """oneDNN's product of matrices of a type, a and the transpose of b; None where this torch has none that works.

    In float32 MKL's takes twice the time on CPUs of another maker; in bfloat16 it is what torch takes, with less around it.
    """
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    a, b = torch.arange(12.0).view(3, 4).to(dtype), torch.arange(20.0).view(5, 4).to(dtype)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return None
        multiply = torch.ops.mkldnn._linear_pointwise
        return multiply if torch.allclose(multiply(a, b, None, "none", [], ""), a @ b.mT, rtol=1e-2) else None
    except (AttributeError, RuntimeError, TypeError):
        return None
