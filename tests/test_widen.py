"""A wider generator that starts where a narrower one is."""

import pytest
import torch

from refine_lib import LamaGenerator
from refine_lib.workshop.recipes import Recipe
from refine_lib.workshop.training import Training
from refine_lib.workshop.widen import widen


def generator(ngf=4, ratio=0.75):
    """A generator whose batch norms have counted something, as a trained one's have."""
    torch.manual_seed(1)
    network = LamaGenerator(ngf, 2, ratio)
    for _ in range(3):
        network.train()(torch.rand(2, 4, 32, 32))
    return network


@pytest.mark.parametrize("ratio", [0, 0.5, 0.75])
@pytest.mark.parametrize("ngf", [4, 5, 6, 8])
def test_it_computes_what_the_narrower_one_does(ngf, ratio):
    narrow = generator(ratio=ratio).double().eval()
    if (8 * ngf * ratio) % 2:
        pytest.skip("a spectrum of half a channel")
    wide = widen(narrow, ngf).double().eval()
    x = torch.rand(2, 4, 40, 32, dtype=torch.float64)
    assert wide.ngf == ngf and torch.allclose(wide(x), narrow(x), atol=1e-5)


def test_channels_that_are_alike_do_not_stay_so():
    wide = widen(generator(), 8).train()
    (wide(torch.rand(2, 4, 32, 32)) ** 2).mean().backward()
    gradient = wide.model[2].ffc.convl2l.weight.grad
    assert not torch.allclose(gradient[:8], gradient[8:], rtol=0.1)


def test_a_training_starts_from_a_narrower_network(tmp_path):
    small = Training(Recipe("scenes", ngf=4, n_blocks=1, batch=4))
    small.train_step()
    small.export(tmp_path / "small.safetensors")
    large = Training(Recipe("scenes", ngf=6, n_blocks=1, batch=4), start=tmp_path / "small.safetensors")
    assert large.network.ngf == 6 and large.step == 1
    large.train_step()


@pytest.mark.parametrize("ngf", [3, 9])
def test_it_is_wider_and_at_most_twice_as_wide(ngf):
    with pytest.raises(ValueError, match=f"ngf is {ngf}; expected 4 to 8"):
        widen(generator(), ngf)
