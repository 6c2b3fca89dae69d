"""What only a machine with a GPU can show."""

import pytest
import torch
from conftest import picture

from refine_lib import load_network, multiscale_inpaint, random_scenes, stroke_masks
from refine_lib.evaluate import evaluate
from refine_lib.fast.memory import HELD_PER_BYTE, bytes_per_pixel
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.fast.speed import sped_up
from refine_lib.optimizers import OPTIMIZERS
from refine_lib.workshop.train_first import train

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


def test_a_run_on_cuda_is_the_same_at_every_speed():
    image, mask = picture(128, 120)
    model = load_network(device="cuda").double()
    exact, auto = (multiscale_inpaint(image, mask, model, **SETTINGS, speed=speed) for speed in ("exact", "auto"))
    assert (exact.image - auto.image).abs().max() < 1e-6
    image, mask, model = image.float(), mask.float(), load_network(device="cuda")
    mixed = multiscale_inpaint(image, mask, model, **SETTINGS, speed="mixed")
    assert mixed.losses[-1][-1] == pytest.approx(exact.losses[-1][-1], rel=0.02)


def test_memory_on_cuda_is_predicted_and_running_out_of_it_is_survived():
    model = load_network(device="cuda")
    image, mask = random_scenes(1024, seed=1), stroke_masks(1024, seed=1)
    needed = HELD_PER_BYTE * image[0, 0].numel() * bytes_per_pixel(sped_up(model)[0], OPTIMIZERS["adam"], mask)
    settings = dict(smallest_scale=512, n_iters=2, progress=False)
    multiscale_inpaint(image, mask, model, **settings)  # what libraries take once
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    wanted = multiscale_inpaint(image, mask, model, **settings)
    assert 0.85 < (torch.cuda.max_memory_allocated() - held) / needed < 1.15
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_reserved() + 0.3 * needed) / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.warns(ShortOfMemory):
            result = multiscale_inpaint(image, mask, model, **settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.image.shape == image.shape and result.note
    assert (result.image - wanted.image).abs().max() < 0.05


@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_runs_on_cuda_here_and_in_workers(tmp_path, workers):
    methods = ["plain:mini-lama", "refined:mini-lama:n_iters=2"]
    settings = dict(masks=["thick"], size=128, features="scenes", progress=False)
    on_cuda = evaluate("scenes:4", tmp_path / "cuda", methods=methods, workers=workers, **settings)
    on_cpu = evaluate("scenes:4", tmp_path / "cpu", methods=methods, device="cpu", **settings)
    assert not on_cuda.errors and all("cuda" in made.lower() for made in on_cuda.rows["made_with"].to_pylist())
    for key, value in on_cpu.values.items():
        if key[2] in ("l1", "ssim"):
            assert on_cuda.values[key].value == pytest.approx(value.value, rel=0.02)
