"""What a second device would show, on a pretended one: mixes, waits, launches, types and memory that runs out."""

import copy

import pytest
import torch
import twin
from conftest import picture
from torch import nn

from refine_lib import load_network, multiscale_inpaint

pytestmark = pytest.mark.skipif(not twin.CAN_BE_INSTALLED, reason=twin.WHY_NOT)


@pytest.fixture(scope="module", autouse=True)
def installed():
    twin.install()


@pytest.fixture(scope="module")
def network():
    """mini-lama on the CPU."""
    return load_network("mini-lama", "cpu")


@pytest.fixture(scope="module")
def twins(network, installed):
    """The same on the twin."""
    return copy.deepcopy(network).to("twin")


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
