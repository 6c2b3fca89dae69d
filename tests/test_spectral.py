"""The way through the spectrum is LaMa's, and so is its gradient."""

import pytest
import torch
from tensors import random
from torch import nn

from refine_lib.fast.folding import folded
from refine_lib.fast.spectral import FusedSpectral
from refine_lib.networks.lama import SpectralTransform


@pytest.fixture(scope="module")
def lamas():
    """A ``SpectralTransform`` of 12 channels, as after training."""
    torch.manual_seed(0)
    network = SpectralTransform(12).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("batch", "size"), [(1, (6, 7)), (2, (6, 7)), (1, (32, 31)), (1, (33, 31)), (1, (2, 5))])
def test_it_gives_what_lamas_gives_and_its_gradient(lamas, batch, size):
    fused = FusedSpectral(folded(lamas))
    x = random(batch, 12, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    before, gradient = (random(batch, 12, *size).contiguous(memory_format=torch.channels_last) for _ in range(2))
    wanted = lamas(x)
    (wanted_gradient,) = torch.autograd.grad((wanted * gradient).sum(), x)

    with torch.no_grad():
        found, found_gradient = before.clone(), before.clone()
        passed = fused.add(found, x)
        fused.add_back(found_gradient, gradient, passed)
    assert (found - before - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert (found_gradient - before - wanted_gradient).abs().max() < 1e-12 * wanted_gradient.abs().max()
    assert all(part.dtype == torch.bool for part in passed)
