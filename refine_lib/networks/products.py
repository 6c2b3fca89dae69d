"""Convolutions of small maps and of single pixels, by whichever of torch's functions is the fastest on a CPU."""

import functools

import torch
import torch.nn.functional as F

SMALL = 20480  # numbers in a map up to which torch takes its own convolution in place of oneDNN's ...
TINY = 100  # ... which is the slower one for maps of more pixels than these
LARGE = 2**15  # numbers in a matrix from which oneDNN's product pays


def convolve(x, weight, bias=None):
    """``F.conv2d`` without padding."""
    if _would_be_slow(x):
        return torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)
    return F.conv2d(x, weight, bias)


def convolve_back(x, weight):
    """``F.conv_transpose2d`` without padding: the transpose of ``convolve``."""
    if _would_be_slow(x):  # the same as a convolution with the kernel turned around, over a border of zeros
        border = tuple(side - 1 for side in weight.shape[2:])
        return torch.mkldnn_convolution(x, weight.transpose(0, 1).flip(2, 3), None, border, (1, 1), (1, 1), 1)
    return F.conv_transpose2d(x, weight)


def _would_be_slow(x):
    small = x.numel() <= SMALL and len(x) == 1 and x.shape[2] * x.shape[3] > TINY
    return small and x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available()


def product(weight, x, bias=None):
    """A 1x1 convolution, to the contiguous memory format from any: a matrix product needs no copy for that.

    Shape: weight (C', C), x (B, C, H, W), bias (C',) -> (B, C', H, W).
    """
    if x.device.type != "cpu":
        return F.conv2d(x, weight[..., None, None], bias).contiguous()
    maps = [_times(weight, one.flatten(1), bias) for one in x.unbind()]
    return (maps[0][None] if len(maps) == 1 else torch.stack(maps)).unflatten(2, x.shape[2:])


def add_product(to, weight, x):
    """Adds a 1x1 convolution of x to ``to``, (B, C', H, W), in place; the memory formats of the two may differ."""
    if x.device.type != "cpu":
        return to.add_(F.conv2d(x, weight[..., None, None]))
    for total, one in zip(to.unbind(), x.unbind(), strict=True):
        total.view(len(total), -1).addmm_(weight, one.flatten(1))
    return to


def _times(a, b, bias):
    multiply = _product_of_onednn() if b.numel() >= LARGE and a.dtype == torch.float32 else None
    if multiply is None:
        return a @ b if bias is None else torch.addmm(bias[:, None], a, b)
    rows = b.mT
    dense = rows.is_contiguous() or b.is_contiguous()
    made = multiply(a, rows if dense else rows.contiguous(), None, "none", [], "")
    return made if bias is None else made.add_(bias[:, None])


@functools.cache
def _product_of_onednn():
    """oneDNN's product of float32 matrices, a and the transpose of b; None where this torch has none that works.

    torch's own is MKL's, which on CPUs of another maker takes twice the time.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return None
    a, b = torch.arange(12.0).view(3, 4), torch.arange(20.0).view(5, 4)
    try:
        multiply = torch.ops.mkldnn._linear_pointwise
        return multiply if torch.allclose(multiply(a, b, None, "none", [], ""), a @ b.mT, rtol=1e-5) else None
    except (AttributeError, RuntimeError, TypeError):  # it is not part of what torch documents
        return None
