"""Random tensors, and whether two are the same but for rounding."""

import torch
import torch.nn.functional as F

TOLERANCES = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random(*shape, dtype=torch.float64, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).contiguous(memory_format=memory_format)


def near(found, wanted, dtype, precision=None):
    assert found.shape == wanted.shape and found.dtype == dtype
    return (found.double() - wanted).abs().max() < TOLERANCES[precision or dtype] * wanted.abs().max().clamp(min=1)


def convolved(x, weight, bias=None):
    return F.conv2d(x.double(), weight.double(), None if bias is None else bias.double())
