"""Wrappers: the same answer, with less."""

import contextlib
import copy
import os
import subprocess
import sys

import pytest
import torch
from conftest import picture
from formula import fill_by_formula
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from refine_lib import AOTGenerator, LamaGenerator, multiscale_inpaint, split_network
from refine_lib.fast import speed
from refine_lib.fast.fused import FusedBlocks, FusedDecoder, Head
from refine_lib.fast.memory import Tensors
from refine_lib.fast.plans import NotSpedUp
from refine_lib.fast.speed import Plan, around_hole, checkpointed, folded, fused, sped_up
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.split import SplitNetwork

NETWORKS = {
    "fourier": lambda: fill_by_formula(LamaGenerator(ngf=4, n_blocks=2)),
    "no fourier": lambda: fill_by_formula(LamaGenerator(ngf=4, n_blocks=2, ratio=0)),
    "aot": lambda: fill_by_formula(AOTGenerator(channels=8, n_blocks=2, rates=(1, 2))),
}
SETTINGS = dict(smallest_scale=24, n_iters=4, erosion=3, progress=False, speed="exact")


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


@pytest.mark.parametrize("n_segments", [1, 2])
@pytest.mark.parametrize(("wrapped", "n_parts"), [(fused, 3), (around_hole, 2), (lambda model: around_hole(fused(model)), 2)])
def test_fused_blocks_are_dealt_out_too(wrapped, n_parts, n_segments):
    model, (image, mask) = wrapped(split_network(NETWORKS["fourier"]())), picture(48, 56)
    smaller = checkpointed(model, n_segments)
    for found, wanted in zip(*(result_and_gradient(m, image, mask) for m in (smaller, model)), strict=True):
        assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match=f"n_segments is 99; expected 1 to {n_parts}, the layers of the rear before the decod"):
        checkpointed(model, 99)


def held(model, image, mask):
    """The most bytes that tensors take on the way through the rear and back."""
    leaves, z = as_leaves(model.front(image, mask))
    with Tensors() as tensors:
        model.rear(z).sum().backward()
    return tensors.peak


def test_each_takes_less_memory():
    model, (image, mask) = split_network(NETWORKS["fourier"]()), picture(96, 96)
    plain = held(model, image, mask)
    assert held(folded(model), image, mask) < 0.8 * plain
    assert held(checkpointed(model, 4), image, mask) < 0.7 * plain
    mask[..., 20:] = 0
    assert held(around_hole(folded(fused(model))), image, mask) < 0.6 * held(folded(fused(model)), image, mask)


def test_blocks_keep_a_byte_where_they_kept_many_numbers():
    model = split_network(fill_by_formula(LamaGenerator(ngf=8, n_blocks=4)))
    blocks, one = nn.Sequential(*model.layers[model.at : model.at + 4]), FusedBlocks(model.layers[model.at : model.at + 4])
    kept = []
    for network in (blocks, one):
        z = torch.rand(1, 16, 24, 24).double().requires_grad_(), torch.rand(1, 48, 24, 24).double().requires_grad_()
        with Tensors() as tensors:
            out = network(z)
            kept.append(tensors.held)
            assert out[0].requires_grad and out[1].requires_grad
    assert kept[1] < 0.1 * kept[0]


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (12, 10), (16, 5), (6, 41), (42, 8)])
def test_fused_blocks_have_the_blocks_answer_and_gradient(size):
    blocks = split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=3))).layers[5:8]
    for module in blocks.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)  # or no ReLU would ever be off
    z = [torch.randn(2, n, *size, dtype=torch.float64, requires_grad=True) for n in (8, 24)]
    answers = []
    for network in (blocks, FusedBlocks(blocks)):
        out = network(tuple(z))
        total = sum((t * torch.linspace(-1, 1, t.numel()).view(t.shape)).sum() for t in out)
        answers.append([*out, *torch.autograd.grad(total, z)])
    for wanted, found in zip(*answers, strict=True):
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()


HEADS = {"7 x 7": (7, 3), "3 x 3": (3, 1), "padded too little": (5, 1), "1 x 1": (1, 2)}


def assert_fused_the_same(layers, x):
    """A decoder gives what its layers give, and the same gradient by x, to rounding in float64."""
    answers = []
    for network in (layers, FusedDecoder(layers)):
        out = network(x)
        total = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum()
        answers.append((out, *torch.autograd.grad(total, x)))
    for wanted, found in zip(*answers, strict=True):
        assert found.shape == wanted.shape and (found - wanted).abs().max() < 1e-12 * wanted.abs().max()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(12, 20), (10, 13), (8, 8)])
def test_a_fused_head_has_the_answer_and_gradient_of_its_layers(name, size):
    side, n_pad = HEADS[name]
    layers = nn.Sequential(nn.ReflectionPad2d(n_pad), nn.Conv2d(5, 3, side), nn.Sigmoid()).double().requires_grad_(False)
    assert FusedDecoder.begins_at(layers) == 0
    assert_fused_the_same(layers, torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True))


def test_a_head_keeps_its_prediction_alone_and_other_heads_stay_as_they_are():
    layers = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(16, 3, 7), nn.Sigmoid()).double().requires_grad_(False)
    x, head = torch.rand(1, 16, 32, 32, dtype=torch.float64, requires_grad=True), FusedDecoder(layers)
    with Tensors() as tensors:
        prediction = head(x)
        assert tensors.held == prediction.nbytes
    pad, last = nn.ReflectionPad2d(3), nn.Sigmoid()
    for other in (nn.Conv2d(4, 3, 7, stride=2), nn.Conv2d(4, 3, 7, padding=1), nn.Conv2d(4, 3, (7, 5)), nn.Conv2d(4, 3, 6)):
        assert not Head.can_hold(pad, other, last)
    assert not Head.can_hold(pad, nn.Conv2d(4, 3, 7, bias=False), last)
    for other in (nn.ReflectionPad2d((3, 3, 2, 3)), nn.ReflectionPad2d(0)):
        assert not Head.can_hold(other, nn.Conv2d(4, 3, 7), last)
    assert not Head.can_hold(pad, nn.Conv2d(4, 3, 7), nn.Tanh())


@pytest.mark.parametrize(("kernel", "stride", "padding", "added"), [(3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0), (5, 3, 1, 2)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(5), nn.Identity()], ids=["norm", "no norm"])
def test_a_fused_decoder_has_the_answer_and_gradient_of_its_layers(kernel, stride, padding, added, has_bias, norm):
    enlarging = nn.ConvTranspose2d(4, 5, kernel, stride, padding, added, bias=has_bias), copy.deepcopy(norm), nn.ReLU()
    head = nn.ReflectionPad2d(1), nn.Conv2d(5, 3, 3), nn.Sigmoid()
    layers = nn.Sequential(*enlarging, *head).double().eval().requires_grad_(False)
    if isinstance(layers[1], nn.BatchNorm2d):
        for values in (layers[1].weight, layers[1].bias, layers[1].running_mean):
            nn.init.normal_(values)
    assert FusedDecoder.begins_at(layers) == 0
    assert_fused_the_same(layers, torch.randn(2, 4, 9, 10, dtype=torch.float64, requires_grad=True))


HOLES = {"corner": (0, 9, 0, 9), "middle": (40, 60, 30, 33), "edge": (90, 99, 50, 100), "all": (0, 99, 0, 101)}
HOLES |= {f"{i} px on": (24 + i, 40 + 3 * i % 8, 24 + 5 * i % 8, 48 + i) for i in range(8)}  # all places in a cell, at each end


@pytest.mark.parametrize("hole", HOLES)
def test_the_decoder_around_the_hole_gives_the_same_in_and_near_it(hole):
    model, (image, _) = split_network(NETWORKS["fourier"]()), picture(99, 101)
    top, bottom, left, right = HOLES[hole]
    mask, near = torch.zeros(2, 1, 99, 101, dtype=torch.float64), torch.zeros(1, 1, 99, 101, dtype=torch.bool)
    mask[0, :, top:bottom, left:right] = 1
    near[..., max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = True
    answers = []
    for network in (model, around_hole(model)):
        leaves, z = as_leaves(network.front(image.expand(2, -1, -1, -1), mask))
        prediction = network.rear(z)[..., :99, :101] * near
        answers.append([prediction, *torch.autograd.grad(prediction.square().sum(), leaves)])
    for wanted, found in zip(*answers, strict=True):
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()
    with pytest.raises(ValueError, match="expected a LamaGenerator, cut before its decoder"):
        around_hole(split_network(NETWORKS["aot"]()))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loss", ["paper", "code"])
def test_a_run_is_the_same_at_every_speed(name, loss):
    model, (image, mask) = split_network(NETWORKS[name]()), picture(49, 58)
    options = {**SETTINGS, "loss": loss}
    exact, auto = (multiscale_inpaint(image, mask, model, **{**options, "speed": speed}) for speed in ("exact", "auto"))
    assert exact.speed == "as it is" and auto.speed.startswith("batch norms folded, channels last")
    assert ("around the hole" in auto.speed) == (loss == "paper" and name != "aot")
    assert (exact.image - auto.image).abs().max() < 1e-9
    assert torch.allclose(exact.plain, auto.plain, rtol=0, atol=1e-9)
    image, mask = image.float(), mask.float()
    mixed = multiscale_inpaint(image, mask, model.float(), **{**options, "speed": "mixed"})
    assert "bfloat16" in mixed.speed and mixed.image.dtype == torch.float32
    assert 0 < (mixed.image - exact.image).abs().max() < 0.05
    known = (mask == 0).expand_as(image)
    assert torch.equal(mixed.image[known], image[known])


@pytest.mark.parametrize("at", range(0, 20))
def test_a_cut_anywhere_gives_the_same_at_every_speed(at):
    network = NETWORKS["fourier"]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data *= 1.5  # so that it matters on which side of the cut a norm is
    model, (image, _) = split_network(network, at=at), picture(64, 56)
    mask = torch.zeros(1, 1, 64, 56, dtype=torch.float64)
    mask[..., 30:64, 10:50] = 1  # to the border
    runs = [multiscale_inpaint(image, mask, model, **{**SETTINGS, "speed": speed, "n_iters": 2}) for speed in ("exact", "auto")]
    assert (runs[0].image - runs[1].image).abs().max() < 1e-9


STRANGE = {
    "weights made anew": nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1)),
    "no weights": nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False)),
    "no statistics": nn.Sequential(nn.Conv2d(8, 8, 1), nn.InstanceNorm2d(8)),
    "groups": nn.Sequential(nn.ConvTranspose2d(8, 8, 1, groups=2), nn.BatchNorm2d(8)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_networks_that_cannot_be_folded_are_run_as_they_are(name):
    layers = nn.Conv2d(4, 8, 1), STRANGE[name], nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)
    for norm in nn.Sequential(*layers).modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 2, 9)
    model, (image, mask) = split_network(nn.Sequential(*layers).double(), at=1), picture(64, 64)
    for found, wanted in zip(*(result_and_gradient(m, image, mask) for m in (sped_up(model)[0], model)), strict=True):
        assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max()


@pytest.mark.cpu("on a GPU products are convolutions")
@pytest.mark.parametrize(("whole", "side"), [(False, 400), (True, 400), (False, 64)])
def test_in_mixed_precision_convolutions_and_products_are_in_bfloat16_and_no_fourier_transform(whole, side):
    model, (image, mask) = split_network(NETWORKS["fourier"]()).float(), picture(side, side, dtype=torch.float32)
    seen = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            kinds = {"fft": "transform", "convolution": "convolution", "mm": "product", "linear": "product"}
            kind = next((kind for word, kind in kinds.items() if word in str(call)), None)
            tensors = args[:2] if "linear" in str(call) else args if kind != "convolution" else args[:1]
            seen.update((kind, t.dtype) for t in tensors if kind and isinstance(t, torch.Tensor))
            return call(*args, **(kwargs or {}))

    leaves, z = as_leaves(sped_up(model, "mixed", whole)[0].front(image, mask))
    with Watch():
        prediction = sped_up(model, "mixed", whole)[0].rear(z)
        prediction.sum().backward()
    assert prediction.dtype == leaves[0].grad.dtype == torch.float32
    halves = {("convolution", torch.bfloat16), ("product", torch.bfloat16)}
    assert seen == halves | {("transform", torch.float32), ("transform", torch.complex64)}


def test_what_was_made_of_a_network_is_made_again_when_its_weights_change():
    model = split_network(NETWORKS["fourier"]())
    first, plan = sped_up(model)
    assert sped_up(model) == (first, plan) and sped_up(model, "mixed")[0] is not first
    assert sped_up(model, "exact") == (model, Plan())
    with torch.no_grad():
        model.layers[-2].bias += 0.1
    assert sped_up(model)[0] is not first
    by_name = split_network(NETWORKS["aot"](), at="middle.1.gate")
    assert sped_up(by_name) == (by_name, Plan(reason="the network is no list of layers"))


@pytest.mark.parametrize("n_segments", [0, 99, 2.5])
def test_segments_out_of_range_are_named(n_segments):
    with pytest.raises(ValueError, match=f"n_segments is {n_segments}; expected 1 to 15, the layers of the rear"):
        checkpointed(split_network(NETWORKS["fourier"]()), n_segments)
    with pytest.raises(TypeError, match="expected a split network that is a list of layers"):
        checkpointed(split_network(NETWORKS["aot"](), at="middle.1.gate"), 2)


@pytest.mark.cpu("it is about the meta device")
def test_where_there_is_no_cpu_the_fused_layers_have_the_shapes_of_theirs(monkeypatch):
    """On a device without numbers, which takes the way of a GPU; what they compute there is for tests/test_gpu.py."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # it does not know that device
    model = split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=2))).float()
    z = [torch.rand(2, n, 6, 5, device="meta", requires_grad=True) for n in (8, 24)]
    out = FusedBlocks(model.layers[5:7]).to("meta")(tuple(z))
    gradients = torch.autograd.grad(sum(t.sum() for t in out), z)
    assert [t.shape for t in out] == [t.shape for t in z] == [t.shape for t in gradients]
    x = torch.rand(2, 4, 10, 12, device="meta", requires_grad=True)
    prediction = FusedDecoder(model.layers[-3:]).to("meta")(x)
    assert prediction.shape == (2, 3, 10, 12) and torch.autograd.grad(prediction.sum(), x)[0].shape == x.shape


def test_a_wrapper_that_changes_the_picture_is_not_taken_and_is_named(monkeypatch):
    network = NETWORKS["fourier"]()

    def darker(model, precision, whole):
        return split_network(nn.Sequential(*model.layers, nn.Threshold(0.9, 0.0)), at=model.at, multiple=8)

    monkeypatch.setitem(speed.WRAPPERS, "darker", darker)
    image, mask = picture(64, 56)
    result = multiscale_inpaint(image, mask, split_network(network), **{**SETTINGS, "speed": "auto", "n_iters": 1})
    assert result.speed.startswith("as it is, since with batch norms folded") and "darker another picture" in result.speed
    with pytest.warns(NotSpedUp, match="the network is computed as it is, since with .* darker another picture came of it"):
        multiscale_inpaint(image, mask, split_network(network), **{**SETTINGS, "speed": "mixed", "n_iters": 1})

    monkeypatch.setitem(speed.WRAPPERS, "darker", lambda model, *_: torn(model))
    result = multiscale_inpaint(image, mask, split_network(network), **{**SETTINGS, "speed": "auto", "n_iters": 1})
    assert "and darker it fails: it is torn" in result.speed


@pytest.mark.cpu("about the processor")
def test_mixed_is_float32_where_the_processor_is_no_faster_in_bfloat16(monkeypatch):
    monkeypatch.setattr(speed, "is_faster_in", lambda precision: False)
    model, (image, mask) = split_network(NETWORKS["fourier"]().float()), (t.float() for t in picture(64, 56))
    with pytest.warns(NotSpedUp, match="those in bfloat16 are no faster here"):
        mixed = multiscale_inpaint(image, mask, model, **{**SETTINGS, "speed": "mixed", "n_iters": 1})
    auto = multiscale_inpaint(image, mask, model, **{**SETTINGS, "speed": "auto", "n_iters": 1})
    assert mixed.speed.startswith(auto.speed) and torch.equal(mixed.image, auto.image)


@pytest.mark.cpu("about the processor")
def test_a_processor_without_units_for_bfloat16_is_noticed():
    ask = "import torch; from refine_lib.fast.speed import is_faster_in; print(is_faster_in(torch.bfloat16))"
    answer = subprocess.run(
        [sys.executable, "-c", ask], env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def torn(model):
    """The network, which then fails."""
    model = copy.copy(model)
    model.__class__ = Torn
    return model


class Torn(SplitNetwork):
    def forward(self, image, mask):
        raise RuntimeError("it is torn")


def test_a_network_that_is_no_list_of_layers_is_said_to_be_none():
    image, mask = picture(64, 56)
    named = split_network(NETWORKS["aot"](), at="middle.1.gate")
    with pytest.warns(NotSpedUp, match="computed as it is, since the network is no list of layers"):
        result = multiscale_inpaint(image, mask, named, **{**SETTINGS, "speed": "mixed", "n_iters": 1})
    assert result.speed == "as it is, since the network is no list of layers"
