"""What only a machine with a GPU can show."""

import pytest
import torch
from conftest import picture

from refine_lib import load_network, multiscale_inpaint, random_scenes
from refine_lib.train import train

pytestmark = pytest.mark.gpu
SETTINGS = dict(smallest_scale=32, n_iters=5, erosion=3)


def test_cuda_agrees_with_the_cpu():
    image, mask = picture(128, 120)
    results = [multiscale_inpaint(image, mask, load_network(device=d).double(), **SETTINGS) for d in ("cpu", "cuda")]
    assert results[1].image.device == image.device
    assert (results[0].image - results[1].image).abs().max() < 1e-6
    known = (mask == 0).expand_as(image)
    assert torch.equal(results[1].image[known], image[known])


def test_memory_is_that_of_the_device():
    image, mask = picture(128, 128, dtype=torch.float32)
    torch.cuda.reset_peak_memory_stats()
    result = multiscale_inpaint(image.cuda(), mask.cuda(), load_network(device="cuda"), **SETTINGS)
    assert result.image.device.type == "cuda"
    assert result.steps[-1].peak_memory == torch.cuda.max_memory_allocated()


def test_scenes_are_the_same_on_every_device_and_training_learns_there(tmp_path):
    on_cuda, on_cpu = (random_scenes(64, batch=8, seed=2, device=device).cpu() for device in ("cuda", "cpu"))
    assert torch.allclose(on_cuda, on_cpu, atol=1e-3)
    path = tmp_path / "net.safetensors"
    train(path, steps=300, size=32, batch=16, ngf=4, n_blocks=1, device="cuda", watch_every=100)
    errors = [float(line.split(",")[-1]) for line in path.with_suffix(".csv").read_text().splitlines()[1:]]
    assert errors[-1] < errors[0]
