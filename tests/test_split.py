"""Front, z and rear: at every split point, for every size."""

import copy

import pytest
import torch
from conftest import picture
from formula import fill_by_formula
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from refine_lib import LamaGenerator, load_network, multiscale_inpaint, split_network
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
        (nn.Sequential(Half()), {"at": 0}, ValueError, "49 x 65 px into one of 25 x 33 px; expected the same size"),
    ],
)
def test_a_network_that_cannot_be_split_gets_a_named_error(network, options, error, words):
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        split_network(network, **options)


class Through(nn.Module):
    """A convolution, and a function of what it gives."""

    def __init__(self, function, size=(4, 3)):
        super().__init__()
        self.first, self.function = nn.Conv2d(*size, 3, padding=1), function

    def forward(self, x):
        return self.function(self.first(x))


class Halving(nn.Module):
    """A U-Net that halves a picture some times and joins what is of the same size: it takes multiples of 2**depth."""

    def __init__(self, depth):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(4 if i == 0 else 6, 6, 3, stride=2, padding=1) for i in range(depth))
        self.up = nn.ModuleList(nn.Conv2d(6 if i == 0 else 12, 6, 3, padding=1) for i in range(depth))
        self.last = nn.Conv2d(10, 3, 3, padding=1)

    def forward(self, x):
        seen = [x]
        for down in self.down:
            seen.append(down(seen[-1]).relu())
        x = seen.pop()
        for up in self.up:
            x = torch.cat([nn.functional.interpolate(up(x), scale_factor=2), seen.pop()], dim=1)
        return self.last(x)


def layers(*between):
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), *between, nn.Conv2d(8, 3, 3, padding=1))


def nested(depth):
    network = layers()
    for _ in range(depth):
        network = nn.Sequential(network)
    return network


class LooksCompiled(nn.Module):
    """What ``torch.compile`` gives looks so; to call it loads the compiler, which takes seconds."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network

    def forward(self, x):
        return self._orig_mod(x)


NO_FIT = {
    "complex": (
        lambda: Through(lambda x: torch.complex(x, x)),
        "first",
        r"returns complex64 \(1, 3, 49, 65\); expected one tensor",
    ),
    "bytes": (lambda: Through(lambda x: x.byte()), "first", "returns uint8 .*; expected one tensor"),
    "a number": (lambda: Through(torch.mean), "first", r"returns float32 \(\); expected one tensor"),
    "three dimensions": (lambda: Through(lambda x: x[0]), "first", r"returns float32 \(3, 49, 65\); expected one tensor"),
    "a dictionary": (lambda: Through(lambda x: {"picture": x}), "first", "returns a dict; expected one tensor"),
    "nothing": (lambda: Through(lambda x: None), "first", "returns a NoneType; expected one tensor"),
    "a channel": (lambda: Through(lambda x: x[:, :1]), "first", r"into float32 \(1, 1, 49, 65\); expected the same"),
    "three channels in": (
        lambda: Through(abs, (3, 3)),
        "first",
        "fails on a picture of 49 x 65 px: RuntimeError: Given groups=1",
    ),
    "an error": (lambda: Through(lambda x: {}[0]), "first", "fails on a picture of 49 x 65 px: KeyError: 0"),
    "a fixed size": (lambda: Through(lambda x: x + torch.ones(64, 64)), "first", "fails on a picture of 49 x 65 px"),
    "script": (lambda: scripted(layers(nn.ReLU())), 1, "network is TorchScript, which cannot be cut; expected the nn.Module"),
    "meta": (lambda: layers().to("meta"), 1, "network.0.weight is on the meta device; expected weights in memory"),
    "meta in part": (lambda: layers(nn.Conv2d(8, 8, 1, device="meta")), 1, "network.1.weight is on the meta device"),
    "lazy": (lambda: layers(nn.LazyConv2d(8, 1)), 1, r"network.1.weight has no size yet; run the network once"),
    "batch statistics": (
        lambda: layers(nn.BatchNorm2d(8, track_running_stats=False)),
        1,
        "network.1 is a batch norm without running statistics: .* depend on the others of its batch; .* InstanceNorm2d",
    ),
    "parallel": (lambda: nn.DataParallel(layers()), "module.1", "network is a DataParallel; .* within it, network.module"),
    "compiled": (
        lambda: layers(LooksCompiled(nn.ReLU())),
        1,
        "network.1 is compiled; expected the network as it was before torch.compile",
    ),
    "nested": (lambda: nested(100), 0, "layers within layers, 65 deep or more; expected at most 64"),
    "nested beyond measure": (lambda: nested(3000), 0, "network has layers within layers, more than Python's stack holds"),
    "half": (lambda: layers().half(), 1, "network is float16; expected float32 or float64: network.float()"),
}


def scripted(network):
    with pytest.warns(DeprecationWarning):
        return torch.jit.script(network)


def test_a_multiple_whose_padding_hides_that_the_picture_shrinks_is_not_advised():
    shrinking = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 5))
    with pytest.raises(ValueError, match="a picture of 50 x 66 px into one of 46 x 62 px; expected the same size$"):
        split_network(shrinking, at=2, multiple=2)
    with pytest.raises(ValueError, match="into one of 52 x 68 px; expected the same size$"):
        split_network(shrinking, at=2, multiple=8)


def test_a_network_whose_picture_is_larger_than_what_it_sees_is_told_its_multiple():
    """At a loss that looks at known pixels its picture would be laid over one that is not there."""
    layers = nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1)
    with pytest.raises(ValueError, match="49 x 65 px into one of 50 x 66 px; expected .* give multiple=2$"):
        split_network(nn.Sequential(*layers), at=2)
    image, mask = picture(30, 37, dtype=torch.float32)
    model = split_network(nn.Sequential(*layers), at=2, multiple=2)
    result = multiscale_inpaint(image, mask, model, smallest_scale=16, n_iters=1, erosion=1, loss="code", progress=False)
    assert result.image.shape == image.shape


@pytest.mark.parametrize("case", NO_FIT)
def test_a_network_that_does_not_fit_is_told_why(case):
    if case in ("meta", "lazy") and torch.get_default_device().type == "twin":
        pytest.skip("a tensor subclass holds neither meta nor lazy weights")
    make, at, words = NO_FIT[case]
    with pytest.raises((TypeError, ValueError), match=words):
        split_network(make(), at=at)


@pytest.mark.parametrize(("depth", "multiple"), [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 64)])
def test_a_network_that_needs_a_multiple_is_told_which(depth, multiple):
    network = Halving(depth)
    with pytest.raises(ValueError, match=f"fails on a picture of 49 x 65 px: .* give multiple={multiple}$"):
        split_network(network, at="up.0")
    if depth > 1:
        with pytest.raises(ValueError, match=f"give multiple={multiple}$"):
            split_network(network, at="up.0", multiple=multiple // 2)
    model = split_network(network, at="up.0", multiple=multiple)
    image, mask = picture(70, 85, dtype=torch.float32)
    assert model.multiple == multiple and model(image, mask).shape == image.shape


def test_a_network_that_fails_later_is_told_the_size():
    def fails(x):
        if x.shape[-1] < 30:
            raise KeyError("too small")
        return x

    model = split_network(Through(fails), at="first")
    image, mask = picture(40, 40, dtype=torch.float32)
    with pytest.raises(ValueError, match="the network fails on a picture of 20 x 20 px: KeyError: 'too small'"):
        multiscale_inpaint(image, mask, model, smallest_scale=20, progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"multiple": 4096}, "multiple is 4096; expected a whole number of pixels, 1 to 512"),
        ({"multiple": True}, "multiple is True"),
        ({"multiple": 10**30}, "multiple is 10+; expected"),
        ({"value_range": "ab"}, "value_range is 'ab'"),
        ({"value_range": (0, 1, 2)}, r"value_range is \(0, 1, 2\)"),
        ({"value_range": (0, 10**400)}, r"value_range is \(0, 10+\)"),
        ({"value_range": (0, float("nan"))}, r"value_range is \(0, nan\)"),
        ({"hole_value": "a"}, "hole_value 'a'"),
        ({"hole_value": float("nan")}, "hole_value nan"),
        ({"hole_value": 1e300}, "hole_value 1e.300"),
        ({"at": True}, "at is True; expected the index of a layer"),
        ({"at": [[0]]}, r"at is \[0\]; expected the name of a layer"),
    ],
)
def test_a_convention_out_of_range_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        split_network(layers(), **{"at": 1} | options)


def ordinary():
    """Networks of layers that hold, draw, compute or share more than a convolution does."""
    shared = nn.Conv2d(8, 8, 3, padding=1)
    yield "instance norm", layers(nn.InstanceNorm2d(8))
    yield "dropout", layers(nn.Dropout()).train()
    yield "spectral norm", layers(nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)))
    yield "spectral norm by a hook", layers(nn.utils.spectral_norm(nn.Conv2d(8, 8, 1)), nn.BatchNorm2d(8))
    yield "weight norm", layers(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)))
    yield "shared layers", layers(shared, nn.ReLU(inplace=True), shared)
    yield "deep nesting", nn.Sequential(nn.Conv2d(4, 3, 1), nested_in(nn.Conv2d(3, 3, 1), 40))
    yield "a script in it", layers(scripted(nn.ReLU()))


def nested_in(layer, depth):
    return layer if depth == 0 else nn.Sequential(nested_in(layer, depth - 1))


def test_what_networks_are_made_of_is_refined():
    image, mask = picture(64, 50, dtype=torch.float32)
    for name, network in ordinary():
        network[0].register_full_backward_hook(lambda layer, of_input, of_output: None)
        for at in (1, len(network)):
            model = split_network(network, at=at)
            result = multiscale_inpaint(image, mask, model, smallest_scale=32, n_iters=2, erosion=3, progress=False)
            assert len(result.losses[0]) == 3 and result.image.isfinite().all(), name


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


def test_the_embedded_network_has_a_few_million_parameters():
    model = load_network("mini-lama", device="cpu")
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 3e6
