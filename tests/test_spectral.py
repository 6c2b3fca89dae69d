"""The way through the spectrum is LaMa's, whether by products or by Fourier transforms, and so is its gradient."""

import pytest
import torch
from tensors import random
from torch import nn

from refine_lib.fast import spectral
from refine_lib.fast.frozen import factor_and_shift
from refine_lib.fast.spectral import FusedSpectral
from refine_lib.networks.lama import SpectralTransform

SIZES = [(8, 8), (9, 6), (6, 9), (5, 7), (2, 3), (32, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_the_products_are_the_fourier_transform_and_its_inverse(size):
    height, width = size
    forth, back = spectral._transforms(height, width, torch.float64)
    x = random(height * width, 3)
    found = forth.forward(x).view(height // 2 + 1, 2, width // 2 + 1, 2, 3)  # frequency, its sign, that of rows, part, channel
    wanted = torch.view_as_real(torch.fft.rfft2(x.T.view(3, height, width), norm="ortho")).permute(1, 2, 3, 0)
    for i in range(height // 2 + 1):
        for sign, frequency in enumerate((i, -i % height)):
            assert torch.allclose(found[i, sign], wanted[frequency], rtol=0, atol=1e-13)

    mixed = random(height, width // 2 + 1, 2, 3)  # no transform of real numbers, as a Fourier unit makes them
    same = torch.stack([torch.stack([mixed[i], mixed[-i % height]]) for i in range(height // 2 + 1)])
    wanted = torch.fft.irfft2(torch.view_as_complex(mixed.permute(3, 0, 1, 2).contiguous()), s=size, norm="ortho")
    assert torch.allclose(back.back(same.view(-1, 6)).T.view(3, height, width), wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_each_transform_has_its_transpose(size):
    for transform in spectral._transforms(*size, torch.float64):
        x = random(size[0] * size[1], 3)
        y = random(*transform.forward(x).shape)
        assert (transform.forward(x) * y).sum().item() == pytest.approx((x * transform.back(y)).sum().item(), rel=1e-12)


@pytest.fixture(scope="module")
def lamas():
    """A ``SpectralTransform`` of 12 channels, and a batch norm that follows, as after training."""
    torch.manual_seed(0)
    network = nn.Sequential(SpectralTransform(12), nn.BatchNorm2d(12)).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("side", [0, 32], ids=["transforms", "products"])
@pytest.mark.parametrize(("batch", "size"), [(1, (6, 7)), (2, (6, 7)), (1, (32, 31)), (1, (33, 31)), (1, (2, 5))])
def test_it_gives_what_lamas_gives_and_its_gradient(lamas, batch, size, side, monkeypatch):
    monkeypatch.setattr(spectral, "SIDE", side)
    fused, (_, shift) = FusedSpectral(*lamas), factor_and_shift(lamas[1])
    x = random(batch, 12, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    before, gradient = (random(batch, 12, *size).contiguous(memory_format=torch.channels_last) for _ in range(2))
    wanted = lamas(x)
    (wanted_gradient,) = torch.autograd.grad((wanted * gradient).sum(), x)

    with torch.no_grad():
        found, found_gradient = before.clone(), before.clone()
        passed = fused.add(found, x)
        fused.add_back(found_gradient, gradient, passed)
    assert (found - before + shift[:, None, None] - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert (found_gradient - before - wanted_gradient).abs().max() < 1e-12 * wanted_gradient.abs().max()
    assert all(part.dtype == torch.bool for part in passed)


def test_of_many_weights_there_is_one_copy():
    assert FusedSpectral(SpectralTransform(64).eval(), nn.BatchNorm2d(64)).mix_rows is not None
    many = FusedSpectral(SpectralTransform(300).eval(), nn.BatchNorm2d(300))
    assert many.mix_rows is None
    x = random(1, 300, 4, 4, dtype=torch.float32, memory_format=torch.channels_last)
    with torch.no_grad():
        many.add(torch.zeros_like(x), x)
