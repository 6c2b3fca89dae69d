"""Wrappers: the same answer, with less."""

import pytest
import torch
from conftest import picture
from formula import fill_by_formula
from torch import nn

from refine_lib import AOTGenerator, LamaGenerator, multiscale_inpaint, split_network
from refine_lib.featuremap import as_leaves
from refine_lib.memory import kept_for_gradient
from refine_lib.speed import checkpointed, folded

NETWORKS = {
    "fourier": lambda: fill_by_formula(LamaGenerator(ngf=4, n_blocks=2)),
    "no fourier": lambda: fill_by_formula(LamaGenerator(ngf=4, n_blocks=2, ratio=0)),
    "aot": lambda: fill_by_formula(AOTGenerator(channels=8, n_blocks=2, rates=(1, 2))),
}
SETTINGS = dict(smallest_scale=24, n_iters=4, erosion=3, progress=False)


def result_and_gradient(model, image, mask):
    leaves, z = as_leaves(model.front(image, mask))
    prediction = model.rear(z)
    gradients = torch.autograd.grad(prediction.square().sum(), leaves)
    return [prediction.detach(), *gradients]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_picture_and_gradient(name):
    model, (image, mask) = split_network(NETWORKS[name]()), picture(48, 56)
    faster = folded(model)
    for found, wanted in zip(*(result_and_gradient(m, image, mask) for m in (faster, model)), strict=True):
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.modules())
    assert name == "aot" or any(isinstance(module, nn.BatchNorm2d) for module in model.modules())  # it stays as it was
    runs = [multiscale_inpaint(image, mask, m, **SETTINGS) for m in (faster, model)]
    assert torch.allclose(runs[0].image, runs[1].image, rtol=0, atol=1e-9)


def test_large_variances_are_folded_in_double_precision():
    network = fill_by_formula(LamaGenerator(ngf=4, n_blocks=2))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var *= 1e7
            module.weight.data *= 3e3
    single, (image, mask) = split_network(network).float(), picture(48, 56, dtype=torch.float32)
    assert torch.allclose(folded(single)(image, mask), single(image, mask), rtol=0, atol=1e-4)


def test_a_batch_norm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.weight)
    model, (image, mask) = split_network(network.double(), at=1), picture(48, 56)
    faster = folded(model)
    assert [type(layer).__name__ for layer in faster.layers] == ["Conv2d", "ReLU", "BatchNorm2d", "Conv2d", "Identity"]
    assert torch.allclose(faster(image, mask), model(image, mask), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n_segments", [1, 3, 8])
def test_a_checkpointed_network_gives_the_same_picture_and_gradient_bit_for_bit(name, n_segments):
    model, (image, mask) = split_network(NETWORKS[name]()), picture(48, 56)
    smaller = checkpointed(model, n_segments)
    for found, wanted in zip(*(result_and_gradient(m, image, mask) for m in (smaller, model)), strict=True):
        assert torch.equal(found, wanted)
    runs = [multiscale_inpaint(image, mask, m, **SETTINGS) for m in (smaller, model)]
    assert torch.equal(runs[0].image, runs[1].image) and runs[0].losses == runs[1].losses


def kept(model, image, mask):
    """Bytes that a pass of the rear keeps for its gradient."""
    return sum(kept_for_gradient(model, as_leaves(model.front(image, mask))[1]))


def test_each_keeps_less_for_the_gradient():
    model, (image, mask) = split_network(NETWORKS["fourier"]()), picture(96, 96)
    plain = kept(model, image, mask)
    assert kept(folded(model), image, mask) < 0.8 * plain
    assert kept(checkpointed(model, 4), image, mask) < 0.4 * plain
    assert kept(checkpointed(folded(model), 4), image, mask) < 0.4 * plain


@pytest.mark.parametrize("n_segments", [0, 99, 2.5])
def test_segments_out_of_range_are_named(n_segments):
    with pytest.raises(ValueError, match=f"n_segments is {n_segments}; expected 1 to 15, the layers of the rear"):
        checkpointed(split_network(NETWORKS["fourier"]()), n_segments)
    with pytest.raises(TypeError, match="expected a split network that is a list of layers"):
        checkpointed(split_network(NETWORKS["aot"](), at="middle.1.gate"), 2)
