"""The files around the library say the same thing, and what the README says works."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT

import refine_lib

README = (ROOT / "README.md").read_text()
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def test_the_conda_environment_is_equal_to_the_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[0] == "--editable .[lab,metrics,cluster,photos,test]"
    assert pip[1:] == PINS
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in PINS)


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert any("torchvision" in name for name in extras.pop("fid"))  # which must fit the torch that is there
    wanted = [*project["dependencies"], *sum(extras.values(), [])]
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in PINS}
    assert {re.match(r"[\w-]+", name)[0].lower() for name in wanted} <= pinned
    assert any(pin == "torch==2.13.0" for pin in PINS)


def test_the_wheel_has_every_room_but_the_workshop():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "refine_lib").rglob("__init__.py")}
    assert set(packages) == rooms - {"refine_lib.workshop"}
    ground = [path for path in (ROOT / "refine_lib").rglob("*.py") if "workshop" not in path.parts]
    assert not [path.name for path in ground if "refine_lib.workshop" in path.read_text()]  # nothing in the wheel needs it


def test_the_top_of_the_repository_is_the_agreed_one():
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    allowed = {"notebooks", "refine_lib", "tests", "figures", "README.md", "environment.yml"}
    allowed |= {"pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "CONTRIBUTING.md", "CITATION.cff", "CHANGELOG.md"}
    top = {line.partition("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed


def test_the_readmes_commands_and_links_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([\w-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_documents_and_lessons_link_to_exists():
    tracked = [
        path
        for folder in ("", "refine_lib", "notebooks", "figures")
        for path in (ROOT / folder).glob("*" if not folder else "**/*")
    ]
    texts = {path: path.read_text() for path in tracked if path.suffix == ".md"}
    for path in tracked:
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text())["cells"]
            texts[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = [(path, link) for path, text in texts.items() for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)]
    assert len(links) > 50
    assert not [(path.name, link) for path, link in links if not (path.parent / link).exists()]


def test_the_readmes_python_runs():
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"REFINE_DEVICE": "cpu"}
    )
    assert run.returncode == 0, run.stderr
    assert "256 x 256 px, 3 levels" in run.stdout and "torch.Size([1, 3, 256, 256])" in run.stdout


def test_make_kernel_registers_a_kernel_that_cannot_fall_back(tmp_path):
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("make has not set up .venv here")
    environment = os.environ | {"HOME": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    run = subprocess.run(["make", "kernel"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    kernel = json.loads((tmp_path / "jupyter" / "kernels" / "refine-lib-cuda" / "kernel.json").read_text())
    assert kernel["display_name"] == "Python 3 (refine_lib, CUDA)"
    assert kernel["env"] == {"REFINE_DEVICE": "cuda"}


def test_the_library_loads_without_the_notebooks_extras():
    """A bare ``pip install`` is enough for the five lines of the README."""
    extras = (
        "skimage",
        "ipywidgets",
        "nbformat",
        "nbclient",
        "nbconvert",
        "jupyterlab",
        "kornia",
        "cv2",
        "distributed",
        "pyarrow",
        "torchmetrics",
    )
    hide = "import sys; sys.modules.update(dict.fromkeys({!r}, None)); import refine_lib; refine_lib.load_network(device='cpu')"
    run = subprocess.run([sys.executable, "-c", hide.format(extras)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([\w-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert all((ROOT / path).exists() for path in re.findall(r"`(refine_lib/[\w/.]+\.\w+|tests/\w+)`", text))
    rooms = {path.parent.name for path in (ROOT / "refine_lib").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/`", text, re.MULTILINE)) == rooms


def test_the_hall_and_the_files_are_small():
    hall = list((ROOT / "refine_lib").glob("*.py"))
    assert len(hall) <= 13
    long = {path.name: n for path in (ROOT / "refine_lib").rglob("*.py") if (n := len(path.read_text().splitlines())) > 350}
    assert not long


def test_the_citation_and_the_changes_know_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "refine_lib.__version__"}
    assert citation["version"] == refine_lib.__version__ and citation["license"] == project["project"]["license"]
    assert f"## {refine_lib.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_binder_installs_what_the_lessons_need_with_the_pinned_versions():
    folder = ROOT / ".binder"
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    options = dict(line.split(maxsplit=1) for line in lines)
    assert (folder / options["--constraint"]).resolve() == ROOT / "constraints.txt"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = set(re.fullmatch(r"\.\[([\w,]+)\]", options["--editable"])[1].split(","))
    assert "lab" in wanted and wanted <= set(extras)
    assert (folder / "runtime.txt").read_text().strip() == "python-3.11"
