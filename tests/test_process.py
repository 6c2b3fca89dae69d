"""The library leaves its user's process as it was; and what the docstrings show is what comes."""

import doctest
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import refine_lib

# Printed before the import, after it, and after a run of each kind: whatever a user's process might miss.
PROBE = """
import os, signal, sys, threading, warnings
import numpy, PIL.Image, psutil, safetensors.torch, scipy.ndimage, scipy.special, torch, tqdm.auto  # with filters of their own

def state():
    return {
        "filters": list(warnings.filters),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "apply": torch.autograd.Function.__dict__["apply"],
        "profile": (sys.getprofile(), sys.gettrace(), threading.getprofile()),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "random": torch.random.get_rng_state().tolist(),
        "excepthook": sys.excepthook,
        "compiler": "torch._dynamo" in sys.modules,  # which takes a second to load, and sets a variable and a filter
    }

before = state()
import refine_lib
for name in refine_lib.__all__:
    getattr(refine_lib, name)
after = state()
assert after == before, [(name, before[name], after[name]) for name in before if before[name] != after[name]]
"""
RUN = """
network = torch.nn.Sequential(
    torch.nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1), torch.nn.Sigmoid()
)
class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network
    def forward(self, x):
        return self.body(x)
before = state()
image, mask = refine_lib.random_scenes(64, seed=1), refine_lib.stroke_masks(64, seed=1)
for model in (refine_lib.load_network(device="cpu"), refine_lib.split_network(Whole(), at="body.2")):
    refine_lib.multiscale_inpaint(image, mask, model, 32, n_iters=1, erosion=1, progress=False)
    photo = refine_lib.photos.to_pixels(image)
    from PIL import Image
    hole = Image.fromarray(refine_lib.photos.to_pixels(mask))
    refine_lib.inpaint_photo(Image.fromarray(photo), hole, network=model, smallest_scale=32, n_iters=1, progress=False)
after = state()
assert after == before, [name for name in before if before[name] != after[name]]
"""


def test_neither_an_import_nor_a_run_changes_the_process():
    run = subprocess.run([sys.executable, "-W", "ignore::UserWarning", "-c", PROBE + RUN], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_nothing_in_the_wheel_sets_what_the_whole_process_shares():
    rooms = [path for path in (ROOT / "refine_lib").rglob("*.py") if "workshop" not in path.parts]
    own = {"set_num_threads": {"cluster.py"}, "signal.signal(": {"__main__.py"}}  # of its workers, of a command's process
    for forbidden in ("mallopt", "signal.signal(", "set_num_threads", "set_default_dtype", "Function.apply ="):
        found = {path.name for path in rooms if forbidden in path.read_text()}
        assert found <= own.get(forbidden, set()), forbidden


EXAMPLES = ("multiscale_inpaint", "predict_and_refine", "build_pyramid", "downscale", "erode")
EXAMPLES += ("load_network", "split_network", "inpaint_photo", "random_scenes", "stroke_masks")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_what_people_call_are_true(name, monkeypatch, tmp_path):
    monkeypatch.setenv("REFINE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    function = getattr(refine_lib, name)
    examples = doctest.DocTestFinder(recurse=False).find(function, name, globs={name: function})
    assert examples and examples[0].examples, f"{name} has no example"
    told = []
    with torch.random.fork_rng():
        found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples[0], out=told.append)
    assert not found.failed, "".join(told)


def test_every_public_name_is_loaded_when_it_is_asked_for():
    for name in refine_lib.__all__:
        assert getattr(refine_lib, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        refine_lib.nothing  # noqa: B018
    run = subprocess.run(
        [sys.executable, "-c", "import refine_lib, sys; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert run.stdout == "False\n"
