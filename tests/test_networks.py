"""Loading networks and picking a device."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import picture
from safetensors.torch import save_file

from refine_lib import (
    AOTGenerator,
    LamaGenerator,
    load_network,
    multiscale_inpaint,
    random_scenes,
    split_network,
    stroke_masks,
)
from refine_lib.device import describe, pick_device
from refine_lib.evaluate.methods import biharmonic
from refine_lib.fast.process import peak_memory
from refine_lib.masks import paste
from refine_lib.metrics import hole_l1
from refine_lib.networks import EMBEDDED
from refine_lib.networks.lama import FourierUnit
from refine_lib.networks.registry import load_generator, save_generator


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_network_fills_holes_better_than_the_classical_fill(name):
    model = load_network(name, device="cpu")
    truth, mask = random_scenes(64, batch=32, seed=11), stroke_masks(64, batch=32, seed=11)
    with torch.no_grad():
        filled = paste(model(truth, mask), truth, mask)
    assert filled.min() >= 0 and filled.max() <= 1
    assert hole_l1(filled, truth, mask) < 0.8 * hole_l1(biharmonic(truth, mask), truth, mask)


def test_the_embedded_networks_weigh_a_few_megabytes_and_differ_in_their_fourier_layers():
    assert sum(path.stat().st_size for path in EMBEDDED.values()) < 11e6
    networks = {name: load_generator(path) for name, path in EMBEDDED.items()}
    fourier = {name: [m for m in network.modules() if isinstance(m, FourierUnit)] for name, network in networks.items()}
    assert len(fourier["mini-lama"]) == 12 and not fourier["mini-conv"]
    weights = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert weights["mini-conv"] == pytest.approx(weights["mini-lama"], rel=0.1)  # neither is the larger one


@pytest.mark.parametrize(
    "shape",
    [
        dict(ngf=4, n_blocks=2, ratio=0.75),
        dict(ngf=8, n_blocks=1, ratio=0.5),
        dict(ngf=4, n_blocks=3, ratio=0),
        dict(ngf=10, n_blocks=1, ratio=0.3),
    ],
)
def test_a_saved_generator_comes_back_whole(tmp_path, shape):
    network = LamaGenerator(**shape).eval()
    save_generator(network, tmp_path / "weights.safetensors", note="trained by hand")
    found = load_generator(tmp_path / "weights.safetensors")
    assert {name: getattr(found, name) for name in shape} == shape
    image, mask = picture(32, 32, dtype=torch.float32)
    model = load_network(tmp_path / "weights.safetensors", device="cpu")
    assert torch.equal(model(image, mask), network(torch.cat([image * (1 - mask), mask], dim=1)))


def test_a_generator_saved_in_half_precision_is_half_as_large_and_nearly_the_same(tmp_path):
    network = LamaGenerator(ngf=8, n_blocks=2).eval()
    save_generator(network, tmp_path / "whole.safetensors")
    save_generator(network, tmp_path / "half.safetensors", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    image, mask = picture(32, 32, dtype=torch.float32)
    whole, half = (load_network(tmp_path / f"{name}.safetensors", device="cpu")(image, mask) for name in ("whole", "half"))
    assert half.dtype == torch.float32 and 0 < (whole - half).abs().max() < 1e-3


def test_what_is_no_network_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="name_or_path is 'big-llama'; expected 'mini-lama', 'mini-conv', 'big-lama',"):
        load_network("big-llama")
    (tmp_path / "cut.safetensors").write_bytes(EMBEDDED["mini-lama"].read_bytes()[:100_000])
    with pytest.raises(ValueError, match="not a whole .safetensors file"):
        load_network(tmp_path / "cut.safetensors")
    save_file({"head.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match="does not hold a LaMa, AOT-GAN, MAT, ZITS or latent diffusion generator: it has no model.1.ffc.*"
    ):
        load_network(tmp_path / "other.safetensors")
    state = LamaGenerator(ngf=4, n_blocks=1).state_dict()
    del state["model.4.bn_g.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="as a LamaGenerator of {'ngf': 4, .*} it lacks model.4.bn_g.bias"):
        load_network(tmp_path / "part.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_generator(tmp_path / "none.safetensors")


def test_the_device_is_the_best_there_is(monkeypatch):
    monkeypatch.delenv("REFINE_DEVICE", raising=False)
    for cuda, mps, wanted in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert pick_device() == torch.device(wanted)


def test_the_environment_variable_overrides_and_never_falls_back(monkeypatch):
    monkeypatch.setenv("REFINE_DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == torch.device("cpu")
    monkeypatch.setenv("REFINE_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RuntimeError, match="the environment variable REFINE_DEVICE asks for 'cuda', which is not there"):
        load_network("mini-lama")
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="device asks for 'cuda:1'"):
        pick_device("cuda:1")
    monkeypatch.setenv("REFINE_DEVICE", "gpu")
    with pytest.raises(ValueError, match="REFINE_DEVICE is 'gpu'; expected a device such as"):
        pick_device()
    with pytest.raises(ValueError, match="device is 7.5; expected"):
        pick_device(7.5)


def test_a_device_is_described_in_a_line():
    assert describe("cpu").startswith(f"CPU, {torch.get_num_threads()} thread")
    assert peak_memory("cpu") > 50e6


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_the_peak_is_that_of_this_process_and_not_of_the_one_that_began_it():
    large = torch.ones(2**27)  # 512 MB
    command = "import torch; from refine_lib.fast.process import peak_memory; print(peak_memory('cpu'))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert 50e6 < int(run.stdout) < large.nbytes < peak_memory("cpu")


@pytest.mark.parametrize("size", [128, 256])
def test_aot_gan_is_refined_by_the_same_loop(size):
    torch.manual_seed(0)
    network = AOTGenerator(channels=16, n_blocks=2, rates=(1, 2))
    for weights in network.parameters():
        weights.data *= 1.5  # or an untrained network would draw plain gray
    image, mask = random_scenes(size, seed=1), stroke_masks(size, seed=1)
    result = multiscale_inpaint(image, mask, split_network(network), 64, n_iters=4, lr=0.02, erosion=5, progress=False)
    assert result.n_levels == {128: 2, 256: 3}[size]
    assert all(losses[-1] < 0.9 * losses[0] for losses in result.losses)
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])
