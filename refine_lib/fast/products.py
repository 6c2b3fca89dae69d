"""Products of matrices in place of 1x1 convolutions, by whichever of torch's functions is the fastest on a CPU.

torch leaves a CPU's products of float32 matrices to MKL. oneDNN's product takes half of its time on CPUs that are not Intel's.
torch reaches it by a function that it does not document, which is tried once in a process. Where it is missing, or computes
something else, torch's usual product is taken.
"""

import functools

import torch
import torch.nn.functional as F

from refine_lib.fast.frozen import Frozen

LARGE_NUMBERS_PER_MAP = 2**15  # from which oneDNN's products in float32 pay


class Product(Frozen):
    """A 1x1 convolution, and its transpose, as products of matrices: these take maps in either memory format without a copy.

    Args:
        weight: (C', C).
        bias: (C',).
        precision: as in ``Frozen``; results have the type of the weight that is given.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, precision: torch.dtype | None = None):
        super().__init__(weight, bias, precision)
        self.wide = weight.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) of any memory format and type -> (B, C', H, W), contiguous."""
        return _product(self.weight, x.to(self.weight.dtype), self.bias).to(self.wide)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """The transpose, without the bias: (B, C', H, W) -> (B, C, H, W), contiguous."""
        return _product(self.weight.mT, x.to(self.weight.dtype)).to(self.wide)

    def add(self, to: torch.Tensor, x: torch.Tensor) -> None:
        """Adds the product, without the bias, to what is in ``precision``: (B, C', H, W), of any memory format."""
        _add_product(to, self.weight, x.to(self.weight.dtype))

    def add_back(self, to: torch.Tensor, x: torch.Tensor) -> None:
        """Adds the transpose, without the bias, to (B, C, H, W)."""
        _add_product(to, self.weight.mT, x.to(self.weight.dtype))


def _product(weight, x, bias=None):
    if not x.is_cpu:
        return F.conv2d(x, weight[..., None, None], bias).contiguous()
    if len(x) > 1:
        return torch.cat([_product(weight, one, bias) for one in x.split(1)])
    bias = None if bias is None else bias[:, None]
    return _times(weight, x.flatten(2).squeeze(0), bias).view(1, -1, *x.shape[2:])


def _add_product(to, weight, x):
    if not x.is_cpu:
        to.add_(F.conv2d(x, weight[..., None, None]))
        return
    for total, one in zip(to.unbind(), x.unbind(), strict=True):
        total.view(len(total), -1).addmm_(weight, one.flatten(1))


def _times(a, b, bias):
    """``a @ b + bias`` of matrices."""
    is_large = a.dtype == torch.float32 and b.numel() >= LARGE_NUMBERS_PER_MAP
    multiply = product_of_onednn() if is_large else None
    if multiply is None:
        return a @ b if bias is None else torch.addmm(bias, a, b)
    rows = b.mT
    dense = rows.is_contiguous() or b.is_contiguous()  # of a slice it takes a reference, a thousand times slower
    made = multiply(a, rows if dense else rows.contiguous(), None, "none", [], "")
    return made if bias is None else made.add_(bias)


@functools.cache
def product_of_onednn():
    """oneDNN's product of float32 matrices, a and the transpose of b; None where this torch has none that works."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    a, b = (torch.arange(4 * n, dtype=torch.float32).view(n, 4) for n in (3, 5))
    try:
        multiply = torch.ops.mkldnn._linear_pointwise
        return multiply if torch.allclose(multiply(a, b, None, "none", [], ""), a @ b.mT) else None
    except (AttributeError, RuntimeError, TypeError):
        return None
