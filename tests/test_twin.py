"""What a second device would show, on a pretended one: mixes, waits, launches, types and memory that runs out."""

import copy
import warnings

import pytest
import torch
import twin
from conftest import picture
from launches import launches
from torch import nn

from refine_lib import LamaGenerator, load_network, multiscale_inpaint, split_network
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.networks.latent_diffusion import LatentDiffusion
from refine_lib.photos.plain import plain_inpaint

pytestmark = [
    pytest.mark.usefixtures("on_the_cpu"),
    pytest.mark.skipif(not hasattr(torch, "twin"), reason="torch must not have computed before: --device twin"),
]


@pytest.fixture(scope="module")
def network():
    """mini-lama on the CPU."""
    return load_network("mini-lama", "cpu")


@pytest.fixture(scope="module")
def twins(network):
    """The same on the twin."""
    return copy.deepcopy(network).to("twin")


with torch.device("cpu"):
    IMAGE, MASK = picture(96, 128, dtype=torch.float32)
SETTINGS = {"smallest_scale": 24, "n_iters": 3, "lr": 0.005, "erosion": 3, "progress": False}


def test_the_twin_refuses_a_mix_and_computes_as_the_cpu_does():
    a = torch.arange(12.0).view(3, 4)
    there = a.to("twin")
    assert str(there.device) == "twin:0" and torch.equal((there @ there.mT + 2).relu().cpu(), (a @ a.mT + 2).relu())
    for mixed in (
        lambda: there + a,
        lambda: there.copy_(a) @ a.mT,
        lambda: torch.where(a > 1, there, 0.0),
        lambda: torch.cat([a, there]),
    ):
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            mixed()
    with pytest.raises(TypeError, match="can't convert twin:0 device type tensor to numpy"):
        there.numpy()
    weight = nn.Conv2d(3, 2, 3).to("twin").weight
    weight.sum().backward()
    assert weight.grad.device == there.device and weight.grad.cpu().eq(1).all()


RUNS = {
    "exact": {"speed": "exact"},
    "auto": {},
    "mixed": {"speed": "mixed"},
    "Polyak": {"optimizer": "polyak"},
    "the authors' loss": {"loss": "code"},
    "early stop": {"early_stop": 0.05, "n_iters": 8},
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_on_the_twin_gives_the_picture_of_the_cpu(network, twins, run):
    settings = SETTINGS | RUNS[run]
    here = multiscale_inpaint(IMAGE, MASK, network, **settings)
    there = multiscale_inpaint(IMAGE.to("twin"), MASK.to("twin"), twins, **settings)
    off = (there.image.cpu() - here.image).abs().max().item()
    assert off <= {"exact": 0, "mixed": 0.1}.get(run, 1e-3), off
    assert there.image.device.type == "twin" and there.speed == here.speed
    brought = multiscale_inpaint(IMAGE, MASK, twins, **settings)  # a picture of the CPU goes to the network and comes back
    assert brought.image.device.type == "cpu" and torch.equal(brought.image, there.image.cpu())


def test_nothing_waits_for_a_number_within_an_iteration(twins):
    found = []

    def note(step):
        found.append(sum(twin.waits.values()))

    for settings in ({}, {"optimizer": "polyak"}, {"loss": "code"}, {"speed": "mixed"}):
        found.clear()
        with twin.counted():
            multiscale_inpaint(IMAGE.to("twin"), MASK.to("twin"), twins, callback=note, **SETTINGS | settings)
        first = found[2:4]  # of the last level: between its iterations nothing is waited for
        assert first[0] == first[1] and found[-2] == found[-3], (settings, found)


def test_where_memory_runs_out_the_next_plan_is_taken_and_the_picture_comes_back():
    """Rung by rung: as it is, in segments, in more of them or on the CPU; each is said, and gives the same picture."""
    here = split_network(LamaGenerator(ngf=8, n_blocks=18))
    there, found = copy.deepcopy(here).to("twin"), {}
    settings = SETTINGS | {"n_iters": 1}
    wanted = multiscale_inpaint(IMAGE, MASK, here, **settings).image
    weights = twin.memory.held
    twin.memory.peak = weights
    multiscale_inpaint(IMAGE, MASK, there, **settings)
    needed = twin.memory.peak - weights
    try:
        for share in (1.0, 0.85, 0.5, 0.02):
            twin.memory.limit = weights + share * needed
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ShortOfMemory)
                result = multiscale_inpaint(IMAGE, MASK, there, **settings)
            assert torch.allclose(result.image, wanted, atol=1e-4) and result.image.device.type == "cpu"
            assert bool(result.note) == bool(caught) and (not caught or str(caught[-1].message) == result.note)
            found[share] = result.speed
    finally:
        twin.memory.limit = float("inf")
    assert "segments" not in found[1.0] and "rear in segments (2), computed twice" in found[0.85]
    assert found[0.85].count("CPU") == 0 and found[0.5].endswith("on the CPU") and found[0.02].endswith("on the CPU")


def test_what_reaches_each_kernel_under_mixed_speed(twins):
    """Convolutions see 16 bits, Fourier transforms and the optimizer 32, and nothing sees 64."""
    with twin.counted():
        result = multiscale_inpaint(IMAGE.to("twin"), MASK.to("twin"), twins, **SETTINGS | {"speed": "mixed"})
        seen = dict(twin.seen)
    assert "bfloat16" in result.speed
    kinds = {name: {t for (call, types) in seen for t in types if call == name} for name, _ in seen}
    assert kinds["_fft_r2c"] == {torch.float32} and kinds["_fft_c2r"] == {torch.complex64}
    assert kinds["_fused_adam_"] == {torch.float32}
    assert {name for name, types in kinds.items() if torch.float64 in types} == {"copy_"}  # of weights that the CPU has folded
    n_wide = sum(n for (call, types), n in seen.items() if call == "convolution" and torch.float32 in types)
    n_narrow = sum(n for (call, types), n in seen.items() if call == "convolution" and types[0] == torch.bfloat16)
    assert n_narrow > 20 * n_wide, (n_narrow, n_wide)  # the check of the gradient is in the network's own numbers


def test_latent_diffusion_gives_the_picture_of_the_cpu_and_computes_in_half_the_bits_where_it_is_asked_to():
    """Under mixed speed convolutions of the UNet see 16 bits; norms, the softmax and what is left of the noise see 32."""
    here = LatentDiffusion(n=32, n_first=32, n_codes=16, n_steps=2).eval().requires_grad_(False)
    there, image, mask, found = copy.deepcopy(here).to("twin"), IMAGE[..., :64, :64], MASK[..., :64, :64], {}
    wanted = plain_inpaint(image, mask, here, progress=False).image
    for speed in ("auto", "mixed"):
        with twin.counted():
            result = plain_inpaint(image, mask, there, progress=False, speed=speed)
            found[speed] = {name: {t for call, types in twin.seen for t in types if call == name} for name, _ in twin.seen}
        assert result.image.device.type == "cpu" and ("bfloat16" in result.speed) == (speed == "mixed")
        assert (result.image - wanted).abs().mean() < {"auto": 1e-5, "mixed": 0.05}[speed]
    for name in ("native_group_norm", *(name for name in found["auto"] if "softmax" in name)):
        assert found["auto"][name] == found["mixed"][name] == {torch.float32}, name
    assert found["auto"]["convolution"] == {torch.float32} and found["mixed"]["bmm"] == {torch.float32}  # of attention
    narrow = [n for (call, types), n in twin.seen.items() if call == "convolution" and types[0] == torch.bfloat16]
    assert sum(narrow) > 100 and any("softmax" in name for name in found["auto"])


def test_launches_of_kernels_in_an_iteration():
    """What is launched in each is what a graph of them would save. Fused layers launch fewer than the network as it is."""
    found = {name: calls.total() for name, calls in launches("mini-lama", 128).items()}
    assert 200 < found["refine_lib"] < found["exact"] < 1000, found
