"""What a run needs is told before it, and it is made to fit."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import picture
from formula import fill_by_formula
from torch import nn

from refine_lib import LamaGenerator, multiscale_inpaint, split_network
from refine_lib.fast import plans
from refine_lib.fast.memory import HELD_PER_BYTE, SIDES_PX, Tensors, bytes_per_pixel
from refine_lib.fast.plans import Plans, ShortOfMemory, numbers_of_segments
from refine_lib.fast.speed import Plan, checkpointed, sped_up
from refine_lib.optimizers import Adam

SETTINGS = dict(smallest_scale=32, n_iters=2, erosion=3, progress=False)


def test_tensors_are_counted_from_their_making_to_their_end():
    with Tensors() as tensors:
        a = torch.zeros(1000)
        b = a.view(10, 100) + 1  # 4000 bytes each; a view has none of its own
        assert tensors.held == 8000
        del a
        assert tensors.held == 4000
        b += b * 2
        assert (tensors.held, tensors.peak) == (4000, 8000)


def test_torch_still_has_the_private_name_that_memory_is_counted_by():
    assert hasattr(torch.zeros(1).untyped_storage(), "_cdata"), (
        "a storage's _cdata is gone: memory.py tells storages apart by it. data_ptr() does so too, but for those of 0 bytes"
    )


MEASURE = r"""
import re, sys
from pathlib import Path
from refine_lib import load_network, multiscale_inpaint, random_scenes, stroke_masks
from refine_lib.fast.memory import bytes_per_pixel
from refine_lib.fast.process import return_free_memory
from refine_lib.fast.speed import sped_up
from refine_lib.optimizers import OPTIMIZERS

def held(what):
    return 1024 * int(re.search(what + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])

size = int(sys.argv[2])
model, image, mask = load_network(sys.argv[1], "cpu"), random_scenes(size, seed=1), stroke_masks(size, seed=1)
needed = size**2 * bytes_per_pixel(sped_up(model)[0], OPTIMIZERS["adam"], mask)
settings = dict(n_iters=2, progress=False)
multiscale_inpaint(image[..., :64, :64], mask[..., :64, :64], model, 32, **settings)  # what libraries take once
return_free_memory()
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = held("VmRSS")
multiscale_inpaint(image, mask, model, size // 2, **settings)
print(held("VmHWM") - before, needed)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc and of /proc")
@pytest.mark.parametrize(("name", "size"), [("mini-lama", 512), ("mini-conv", 640)])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_memory_of_a_run_is_predicted(name, size, at_once):
    """Within 15% where glibc gives freed memory back at once; as it comes, it keeps some for a run's next tensors."""
    environment = {"MALLOC_MMAP_THRESHOLD_": "524288", "MALLOC_TRIM_THRESHOLD_": "524288"} if at_once else {}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, name, str(size)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert run.returncode == 0, run.stderr
    taken, needed = map(float, run.stdout.split())
    if at_once:
        assert 0.85 < taken / needed < 1.15
    else:
        assert 0.85 * needed < taken < HELD_PER_BYTE * needed + 200e6


def test_a_larger_network_takes_more_and_weights_are_not_counted():
    sizes = [split_network(LamaGenerator(ngf=n, n_blocks=2)) for n in (4, 16)]
    small, large = map(bytes_of, sizes)
    assert 1.5 * small < large < 8 * small
    weights = sum(t.nbytes for t in sizes[1].parameters())
    assert weights / SIDES_PX[0] ** 2 > 100
    assert bytes_of(split_network(nn.Sequential(nn.Conv2d(4, 3, 1)), at=0)) < 500


def test_float64_takes_twice_the_memory():
    single, double = (bytes_of(split_network(LamaGenerator(ngf=4, n_blocks=1)).to(t)) for t in (torch.float32, torch.float64))
    assert double == pytest.approx(2 * single, rel=0.01)


def test_a_small_hole_takes_less():
    model, mask = sped_up(split_network(LamaGenerator(ngf=4, n_blocks=2)))[0], torch.zeros(1, 1, 700, 500)
    mask[..., 300:330, 10:90] = 1
    assert bytes_of(model, mask) < 0.8 * bytes_of(model)


def test_the_smallest_hole_and_that_of_a_later_picture_are_seen():
    model, mask = split_network(LamaGenerator(ngf=4, n_blocks=1)), torch.zeros(2, 1, 1024, 1024)
    mask[1, :, 8:9, 100:300] = 1
    sped = sped_up(model)[0]
    assert 0 < bytes_of(sped, mask) < bytes_of(sped)


@pytest.fixture
def wide():
    return split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=6))).float()


@pytest.fixture
def deep():
    return split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=18))).float()


@pytest.fixture
def local():
    """Nothing in it can be fused."""
    return split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=12, ratio=0))).float()


def bytes_of(model, mask=None):
    return bytes_per_pixel(model, Adam, mask)


@pytest.fixture
def plans_for(monkeypatch):
    """Makes the plans of a picture where so many bytes are available."""

    def make(model, available, height=600, width=500):
        monkeypatch.setattr(plans, "available_memory", lambda device: available)
        return Plans(model, torch.zeros(1, 3, height, width), hole_in(height, width), Adam)

    return make


def hole_in(height, width):
    mask = torch.zeros(1, 1, height, width)
    mask[..., 100:400, 100:400] = 1
    return mask


@pytest.mark.cpu("it pretends a GPU in a way of its own")
def test_the_first_plan_that_fits_is_taken(deep, plans_for):
    faster, plan = sped_up(deep)
    mask = hole_in(600, 500)
    needed = HELD_PER_BYTE * mask.numel() * bytes_of(faster, mask)
    assert plans_for(deep, 1.01 * needed).plan == plan
    in_segments = plans_for(deep, 0.95 * needed)
    assert in_segments.plan == replace(plan, segments=2) and not in_segments.note
    assert str(in_segments.plan) == f"{plan}, rear in segments (2), computed twice"


@pytest.mark.cpu("it pretends a GPU in a way of its own")
def test_where_no_plan_fits_that_of_the_least_memory_is_taken_and_of_equal_ones_the_fastest(deep, plans_for):
    flat = split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=2))).float()  # its decoder takes the most
    said = r"The run needs about \d+ MB of memory, and 0 MB are there"
    for model, segments in ((deep, 2), (flat, 0)):
        with pytest.warns(ShortOfMemory, match=said):
            taken = plans_for(model, 1000)
        assert taken.plan == replace(sped_up(model)[1], segments=segments)
        x = picture(64, 72, dtype=torch.float32)
        assert torch.equal(taken.model(*x), sped_up(model)[0](*x))


@pytest.mark.cpu("it pretends a GPU in a way of its own")
def test_a_small_picture_is_asked_about_only_where_memory_is_short(wide, plans_for, monkeypatch):
    def never(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(plans, "bytes_per_pixel", never)
    assert plans_for(wide, 5e9, 500, 500).plan == sped_up(wide)[1]
    with pytest.raises(AssertionError, match="asked"):
        plans_for(wide, 1e9, 500, 500)


def test_each_plan_takes_less_memory_and_gives_the_same_picture(deep, local):
    image, mask = picture(64, 72, dtype=torch.float32)
    for model, counts, shares in ((deep, [2, 6], (0.9, 1.01)), (local, [2, 5], (0.95, 0.95))):
        faster = sped_up(model)[0]
        wanted = multiscale_inpaint(image, mask, model, **SETTINGS).image
        assert numbers_of_segments(faster) == counts
        ways = [checkpointed(faster, n_segments) for n_segments in counts]
        for way in ways:
            assert torch.equal(multiscale_inpaint(image, mask, way, **SETTINGS, speed="exact").image, wanted)
        needed = [bytes_of(network, mask) for network in (faster, *ways)]
        assert all(less < share * more for more, less, share in zip(needed, needed[1:], shares, strict=False))


def test_a_layer_that_stands_alone_is_not_computed_twice():
    one_block = split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=1))).float()
    assert numbers_of_segments(sped_up(one_block)[0]) == []


def test_a_plan_says_what_is_done():
    assert str(Plan()) == "as it is"
    plan = Plan(("channels last",), torch.bfloat16, 3, torch.device("cpu"))
    assert str(plan) == "channels last, convolutions in bfloat16, rear in segments (3), computed twice, on the CPU"


class OnAGpu(Plans):
    """As if the network were on a GPU whose memory runs out ``times`` times."""

    times, where = 0, torch.device("cuda")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.device = self.where

    def run(self, compute, *tensors, **settings):
        def fails(*tensors, **settings):
            if compute.__name__ == "_predict_and_refine" and type(self).times:
                type(self).times -= 1
                compute(*tensors, **{**settings, "n_iters": 1})  # so far it came
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return compute(*tensors, **settings)

        return super().run(fails, *tensors, **settings)


@pytest.mark.cpu("it pretends a GPU in a way of its own")
@pytest.mark.parametrize(("times", "said"), [(1, "rear in segments (2)"), (2, "rear in segments (5)"), (3, ", on the CPU")])
def test_where_a_gpus_memory_runs_out_the_next_plan_is_tried(local, monkeypatch, times, said):
    image, mask = picture(64, 72, dtype=torch.float32)
    wanted = multiscale_inpaint(image, mask, local, **SETTINGS)
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, where, to=torch.Tensor.to, **more: to(self, "cpu" if where == torch.device("cuda") else where, **more),
        raising=False,
    )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr("refine_lib.refine.Plans", OnAGpu)
    monkeypatch.setattr(OnAGpu, "times", times)
    with pytest.warns(ShortOfMemory, match="The GPU's memory did not hold the run"):
        result = multiscale_inpaint(image, mask, local, **SETTINGS)
    assert OnAGpu.times == 0 and said in result.speed and said in result.note and not result.message
    assert torch.equal(result.image, wanted.image) and result.losses == wanted.losses


@pytest.mark.cpu("it pretends a GPU in a way of its own")
def test_memory_that_runs_out_on_the_cpu_is_not_tried_again(wide, monkeypatch):
    monkeypatch.setattr(
        "refine_lib.refine._predict_and_refine", lambda *args, **kwargs: (_ for _ in ()).throw(torch.OutOfMemoryError)
    )
    with pytest.raises(torch.OutOfMemoryError):
        multiscale_inpaint(*picture(64, 72, dtype=torch.float32), wide, **SETTINGS)


def test_a_network_is_measured_once_for_a_folder_of_photos(local):
    runs = []
    hook = local.layers[0].register_forward_hook(lambda *_: runs.append(1))
    try:
        assert bytes_of(local) == bytes_of(local) and len(runs) == 2  # a picture of each of two sizes
    finally:
        hook.remove()
