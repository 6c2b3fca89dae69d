"""What networks with frozen weights are made of: layers with a gradient of their own, which needs nothing of what they saw."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

NUMBERS_AT_A_TIME = 2**18  # for torch makes numbers of 4 bytes of the bytes that it multiplies by


class Frozen(nn.Module):
    """Holds a weight and a bias that stay as they are.

    Args:
        weight: as the subclass says.
        bias: (C',), or None.
        precision: of what is computed, e.g. ``torch.bfloat16``; None is that of the weight.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, precision: torch.dtype | None = None):
        super().__init__()
        precision = precision or weight.dtype
        memory_format = torch.channels_last if weight.ndim == 4 else torch.preserve_format
        weight = weight.detach().to(precision, memory_format=memory_format)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(precision), persistent=False)


class Convolution(Frozen):
    """A convolution, and its transpose, which takes the gradient the other way; its weight is (C', C, K, L)."""

    def forward(self, x: torch.Tensor, padding: int = 0, stride: int = 1) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W'); the padding is of zeros."""
        return F.conv2d(x, self.weight, self.bias, stride, padding)

    def back(self, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        """The transpose of ``forward`` with stride 1, without the bias: (B, C', H', W') -> (B, C, H, W)."""
        return F.conv_transpose2d(x, self.weight, padding=padding)


class Enlarging(Frozen):
    """A transposed convolution and a ReLU; ``back`` takes the gradient from between the two to the input.

    Args:
        transposed: its weights are copied.
        precision: as in ``Frozen``.
    """

    def __init__(self, transposed: nn.ConvTranspose2d, precision: torch.dtype | None = None):
        super().__init__(transposed.weight, transposed.bias, precision)
        self.stride, self.output_padding = transposed.stride, transposed.output_padding
        self.padding: Any = transposed.padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding).relu_()

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C', H', W') -> (B, C, H, W)."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding)


def places(x: torch.Tensor) -> torch.Tensor:
    """Where a ReLU let through, from what it gave: a byte for each number; numbers of 2 bytes are given back as they are."""
    return x if x.element_size() == 2 else x.bool()  # what is 0 or more becomes bool in a fifth of the time of x > 0


def where(x: torch.Tensor, passed: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """x where a ReLU let through, as ``places`` tells, else 0. It is written to ``out``, which may be x, if that is given."""
    if passed.dtype != torch.bool:
        return torch.ops.aten.threshold_backward(x.to(passed.dtype), passed, 0)
    out = torch.empty_like(x) if out is None else out
    n_rows = -(-NUMBERS_AT_A_TIME * x.shape[2] // x.numel())
    for part, through, to in zip(*(t.split(n_rows, dim=2) for t in (x, passed, out)), strict=True):
        torch.mul(part, through.view(torch.int8), out=to)  # on a CPU by a byte is several times faster than by a bool
    return out
