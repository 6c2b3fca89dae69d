"""Front, z and rear: at every split point, for every size."""

import copy

import pytest
import torch
from conftest import picture
from formula import fill_by_formula
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from refine_lib import LamaGenerator, load_network, split_network
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.probe import check_model
from refine_lib.networks.split import SplitNetwork

GENERATORS = {ratio: fill_by_formula(LamaGenerator(ngf=4, n_blocks=2, ratio=ratio)) for ratio in (0.75, 0.5, 0.0)}
N_LAYERS = len(GENERATORS[0.75].model)


@given(st.integers(0, N_LAYERS), st.integers(16, 50), st.integers(16, 50), st.sampled_from(sorted(GENERATORS)))
@settings(deadline=None, max_examples=60)
def test_rear_of_front_is_the_network_for_every_split_point(at, height, width, ratio):
    image, mask = picture(height, width)
    network = GENERATORS[ratio]
    model = split_network(network, at=at)
    down, right = -height % 8, -width % 8
    x = nn.functional.pad(torch.cat([image * (1 - mask), mask], dim=1), (0, right, 0, down), mode="reflect")
    wanted = network(x)[..., :height, :width]
    z = model.front(image, mask)
    assert isinstance(z, tuple) and all(isinstance(t, torch.Tensor) for t in z)
    assert torch.equal(model.rear(z), wanted)
    assert torch.equal(model(image, mask), wanted)


@pytest.mark.parametrize("at", range(N_LAYERS + 1))
def test_z_can_be_optimized_at_every_split_point(at):
    model = split_network(GENERATORS[0.75], at=at)
    leaves, z = as_leaves(model.front(*picture(32, 32)))
    model.rear(z).sum().backward()
    assert all(t.grad.abs().max() > 0 for t in leaves)


def test_the_default_is_the_split_before_the_first_residual_block():
    model = split_network(GENERATORS[0.75])
    z = model.front(*picture(48, 40))
    assert [tuple(t.shape) for t in z] == [(1, 8, 6, 5), (1, 24, 6, 5)]
    assert "cut before layer 5 (FourierBlock)" in repr(model)
    assert repr(z) == "Featuremap((1, 8, 6, 5), (1, 24, 6, 5); 0.0 MB)"


def test_a_layer_may_be_named():
    assert split_network(GENERATORS[0.75], at="model.6").at == split_network(GENERATORS[0.75], at="6").at == 6


def test_weights_are_frozen_and_stay_in_eval_mode():
    model = split_network(LamaGenerator(ngf=4, n_blocks=1)).train()
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())


def test_what_is_in_the_hole_is_not_looked_at(tiny):
    image, mask = picture()
    assert torch.equal(tiny(image, mask), tiny(torch.where(mask > 0, torch.rand_like(image), image), mask))


def test_the_convention_of_another_network():
    """A network that wants [-1, 1], 1 in the hole and multiples of 4, and answers with what it saw."""
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x[:, :3]

    model = split_network(nn.Sequential(Look(), nn.Identity()), at=0, hole_value=1.0, value_range=(-1, 1), multiple=4)
    image, mask = picture(18, 21)
    prediction = model(image, mask)
    assert seen[-1].shape == (1, 4, 20, 24)
    x = seen[-1][..., :18, :21]
    assert torch.allclose(x[:, :3], torch.where(mask > 0, 1.0, 2 * image - 1)) and torch.equal(x[:, 3:], mask)
    assert torch.allclose(prediction, torch.where(mask > 0, 1.0, image))


def test_a_plain_tuple_keeps_the_padding(tiny):
    z = tiny.front(*picture(21, 30))
    assert tiny.rear(tuple(z)).shape == (1, 3, 24, 32)
    assert tiny.rear(z).shape == (1, 3, 21, 30)


def test_a_featuremap_survives_a_copy(tiny):
    z = tiny.front(*picture(21, 30))
    again = copy.deepcopy(z)
    assert again.size == (21, 30) and torch.equal(again[0], z[0])


class Detach(nn.Module):
    def forward(self, x):
        return x.detach()


class Round(nn.Module):
    def forward(self, x):
        return (x * 255).round() / 255


class SquareRoot(nn.Module):
    def forward(self, x):
        return x[:, :3].clamp(min=0).sqrt()  # its derivative at 0 is infinite


class Nan(nn.Module):
    def forward(self, x):
        return x[:, :3] * float("nan")


class Half(nn.Module):
    def forward(self, x):
        return x[:, :3, ::2, ::2]


def gray():
    """A layer whose picture is neither black nor white anywhere: there a derivative of zero is the network's fault."""
    layer = nn.Conv2d(4, 3, 1)
    nn.init.constant_(layer.weight, 0.1)
    nn.init.constant_(layer.bias, 0.3)
    return layer


@pytest.mark.parametrize(
    ("network", "options", "error", "words"),
    [
        ("mini-lama", {}, TypeError, "network is a str; expected an nn.Module"),
        (nn.Linear(4, 3), {}, ValueError, "at is None; expected the name of a layer, or several names"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), {}, ValueError, "at is None"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), {"at": 7}, ValueError, "at is 7; expected the index of a layer, 0 to 1"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), {"at": "a"}, ValueError, "at is 'a'; expected the name of a layer, for instance 0"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), {"at": 0, "value_range": (1, 0)}, ValueError, "value_range is"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), {"at": 0, "multiple": 0}, ValueError, "multiple is 0"),
        (nn.Sequential(gray(), Detach()), {"at": 1}, ValueError, "breaks the gradient"),
        (nn.Sequential(gray(), Round()), {"at": 1}, ValueError, "derivative by z is zero everywhere"),
        (nn.Sequential(SquareRoot()), {"at": 0}, ValueError, "derivative by z is not finite"),
        (nn.Sequential(Nan()), {"at": 0}, ValueError, "not finite"),
        (nn.Sequential(Half()), {"at": 0}, ValueError, "expected the same shape and dtype"),
    ],
)
def test_a_network_that_cannot_be_split_gets_a_named_error(network, options, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        split_network(network, **options)


def test_a_picture_too_small_to_pad_is_named():
    model = split_network(nn.Sequential(nn.Conv2d(4, 3, 1)), at=0, multiple=64)
    with pytest.raises(ValueError, match="20 x 20 px, too small to be padded to a multiple of 64"):
        model(*picture(20, 20, dtype=torch.float32))
    assert split_network(nn.Sequential(nn.Conv2d(4, 3, 1)), at=0, multiple=192).multiple == 192


def test_a_network_whose_units_are_all_dead_is_no_broken_one():
    """An untrained network may answer one picture with a constant, and so may one whose sigmoid is saturated."""
    dead = nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    nn.init.constant_(dead[0].bias, -100.0)
    assert split_network(dead, at=1).at == 1
    assert split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=18))).at == 5


def test_a_network_is_tried_once_while_it_stays_as_it_is():
    model, tried = split_network(LamaGenerator(ngf=4, n_blocks=1)), []
    model.layers[0].register_forward_hook(lambda *args: tried.append(args))
    for _ in range(3):
        check_model(model, torch.float32)
    assert len(tried) == 1
    with torch.no_grad():
        model.layers[1].ffc.convl2l.weight.mul_(2)
    check_model(model, torch.float32)
    model.at += 1
    check_model(model, torch.float32)
    check_model(model.double(), torch.float64)
    assert len(tried) == 4


def test_a_network_that_cannot_tell_whether_it_changed_is_tried_each_time():
    class Mine(SplitNetwork):
        pass

    model, tried = split_network(LamaGenerator(ngf=4, n_blocks=1)), []
    model.__class__ = Mine
    model.layers[0].register_forward_hook(lambda *args: tried.append(args))
    for _ in range(3):
        check_model(model, torch.float32)
    assert len(tried) == 3 and model.fingerprint() is None


@pytest.mark.parametrize("arguments", [{"ngf": 0}, {"n_blocks": 0}, {"ratio": 1.0}, {"ratio": -0.1}])
def test_a_generator_out_of_range_is_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        LamaGenerator(**{"ngf": 4, "n_blocks": 1} | arguments)


def test_the_embedded_network_is_about_a_million_parameters():
    model = load_network("mini-lama", device="cpu")
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 2e6
