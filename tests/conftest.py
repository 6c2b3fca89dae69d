import copy
import json
import os
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

import twin
from formula import fill_by_formula

from refine_lib import LamaGenerator, split_network
from refine_lib.fast import speed

ROOT = TESTS.parent
pytest_plugins = ["browser"]  # its fixtures
torch.manual_seed(0)  # for what is drawn while tests are collected


@pytest.fixture(autouse=True)
def same_random_numbers():
    """A test fails always or never, in any order."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def units_for_bfloat16(monkeypatch):
    """So that ``speed="mixed"`` is tested on every machine. A test that is about this asks the function that it was."""
    monkeypatch.setattr(speed, "is_faster_in", lambda precision: True)


def pytest_addoption(parser):
    parser.addoption("--device", help="where tests compute that name no device: twin, which is pretended, or cuda")
    parser.addoption("--screenshots", help="folder to keep the pictures that the browser tests take of the panel")


def pytest_configure(config):
    device = config.getoption("--device")
    if device == "twin":
        if not twin.CAN_BE_INSTALLED:
            pytest.exit(twin.WHY_NOT, returncode=0)
        twin.install()
        hypothesis.settings.register_profile("twin", max_examples=20)  # what a device shows it shows in a few
        hypothesis.settings.load_profile("twin")
    if device:
        os.environ["REFINE_DEVICE"] = device  # for networks, and what else chooses a device
        torch.set_default_device(device)  # for tensors


def pytest_collection_modifyitems(config, items):
    if config.getoption("--device") not in (None, "cpu"):
        for item in items:
            if marker := item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason=marker.args[0]))
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device on this machine")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def tiny():
    """A split LaMa generator in float64, small enough to be optimized in a fraction of a second."""
    return split_network(fill_by_formula(LamaGenerator(ngf=4, n_blocks=2)))


@pytest.fixture(scope="session")
def tiny_single(tiny):
    """The same network in float32."""
    return copy.deepcopy(tiny).float()


def known_answer(name):
    """The arrays of a known answer as a dictionary, its ``meta`` read, its picture and mask, if any, as float64 tensors."""
    with np.load(TESTS / "known_answers" / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    if "meta" in arrays:
        arrays["meta"] = json.loads(str(arrays["meta"]))
    if "image" in arrays:
        arrays["image"] = torch.from_numpy(arrays["image"]).permute(2, 0, 1)[None].double() / 255
    if "mask" in arrays:
        arrays["mask"] = torch.from_numpy(arrays["mask"])[None, None].double()
    return arrays


def picture(height=48, width=48, batch=1, seed=0, dtype=torch.float64):
    """A smooth random picture (B, 3, H, W) and a mask (B, 1, H, W) with a box as its hole."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator, dtype=dtype)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    mask = torch.zeros(batch, 1, height, width, dtype=dtype)
    mask[..., height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return image, mask


def photo_in_mode(pixels, mode):
    """A photo (H, W, 3), uint8, in one of Pillow's modes; transparency varies."""
    if mode == "I;16":
        return Image.fromarray(pixels[..., 1] * np.uint16(257) ^ np.uint16(77))
    image = Image.fromarray(pixels).convert(mode.removesuffix("A"))
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(255 - pixels[..., 2] // 2))
    return image


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Processes that are started know the pretended device, too."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(TESTS)!r})\nimport twin\ntwin.install()\n"
    )
    paths = filter(None, [str(tmp_path / "site"), str(ROOT), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture
def on_the_cpu():
    """What a test makes itself is on the CPU, whatever the default device is."""
    with torch.device("cpu"):
        yield
