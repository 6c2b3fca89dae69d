"""What a notebook must be, so that comparing it means something and GitHub shows it; and running one without a screen."""

import ast
import importlib
import json
import re
import subprocess
import sys
import types

import nbformat
import pytest
import torch
from conftest import ROOT, picture
from nbclient.exceptions import CellExecutionError
from PIL import Image

from refine_lib import downscale, plots, predict_and_refine
from refine_lib.workshop.lessons import execute, figures, lighten

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"
SHOWN = {"predict_and_refine"}  # library functions that a lesson shows in full; each has its test below


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def tagged(path, kind):
    """The cells of a notebook with a tag ``KIND:NAME``, as pairs of NAME and cell."""
    for cell in code_cells(path):
        for tag in cell["metadata"].get("tags", []):
            if tag.startswith(kind + ":"):
                yield tag.removeprefix(kind + ":"), cell


def test_the_lessons_are_numbered_and_lead_to_one_another():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(8)]
    for path, following in zip(NOTEBOOKS, NOTEBOOKS[1:], strict=False):
        last = source(json.loads(path.read_text())["cells"][-1])
        assert f"]({following.name})" in last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_every_cell_was_run_in_order(self, path):
        assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))

    def test_at_least_three_cells_are_compared(self, path):
        compared = [c for c in code_cells(path) if c["outputs"] and IGNORED not in c["metadata"].get("tags", [])]
        assert len(compared) >= 3

    def test_it_is_light_and_renders(self, path):
        assert path.stat().st_size <= 60_000
        notebook = json.loads(path.read_text())
        nbformat.validate(notebook)
        assert "widgets" not in notebook["metadata"]
        kinds = {kind for cell in code_cells(path) for output in cell["outputs"] for kind in output.get("data", {})}
        assert not any(kind.startswith("image/") or "widget" in kind for kind in kinds)

    def test_it_names_no_place_of_one_machine(self, path):
        assert not re.search(r"(/home/|/root/|/tmp/|/opt/|/Users/|[A-Z]:\\\\)", path.read_text())

    def test_cells_are_short_and_without_styling(self, path):
        for cell in code_cells(path):
            assert len(source(cell).splitlines()) <= 25
            assert all(len(line) <= 90 for line in source(cell).splitlines())  # no more fits beside the side bar
            assert "plt." not in source(cell)

    def test_it_says_what_you_do_learn_and_need(self, path):
        first = source(json.loads(path.read_text())["cells"][0])
        assert all(f"**You {word}**" in first for word in ("will", "will learn", "need"))

    def test_it_uses_public_names(self, path):
        tree = ast.parse("\n".join(map(source, code_cells(path))))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "refine_lib":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert alias.name in getattr(module, "__all__", [alias.name]) or alias.name == "plots"
                    assert not alias.name.startswith("_") and hasattr(module, alias.name)
                    assert (getattr(module, alias.name).__doc__ or "").strip()
            if isinstance(node, ast.Attribute):
                assert not re.match("_[a-z]", node.attr)
                if isinstance(node.value, ast.Name) and node.value.id == "plots":
                    assert node.attr in plots.__all__

    def test_every_figure_is_seen_without_a_kernel(self, path):
        """Each cell that draws has a picture in the repository, of the size that it draws, and the text beside shows it."""
        cells = json.loads(path.read_text())["cells"]
        drawn = [
            i for i, cell in enumerate(cells) if cell["cell_type"] == "code" and "<Figure size" in json.dumps(cell["outputs"])
        ]
        assert drawn
        names = dict((cell["id"], name) for name, cell in tagged(path, "figure"))
        for i in drawn:
            cell, name = cells[i], names[cells[i]["id"]]
            assert "caption=caption" in source(cell)
            wanted = re.findall(r"<Figure size ([\d.]+)x([\d.]+)", json.dumps(cell["outputs"]))[-1]
            with Image.open(ROOT / "figures" / f"{name}.png") as picture:
                size = picture.size  # what is empty around a figure is cut off
            assert all(0.85 * float(a) < b < float(a) + 30 for a, b in zip(wanted, size, strict=True)), (name, wanted, size)
            beside = "".join(source(cells[j]) for j in (i - 1, i + 1) if cells[j]["cell_type"] == "markdown")
            assert re.search(rf"!\[[^\]]{{20,}}\]\(../figures/{name}.png\)", beside), name

    def test_a_body_that_it_shows_is_named(self, path):
        assert {name for name, _ in tagged(path, "shows")} <= SHOWN


@pytest.fixture
def shown():
    """From the name of a library function to the one that a lesson shows in full for it."""
    found = {}
    for path in NOTEBOOKS:
        imports = "\n".join(line for cell in code_cells(path) for line in imports_of(cell))
        for name, cell in tagged(path, "shows"):
            names = {}
            exec(imports, names)
            before = set(names)
            exec(source(cell), names)
            (new,) = set(names) - before
            found[name] = names[new]
    assert set(found) == SHOWN
    return found


def imports_of(cell):
    nodes = ast.parse(source(cell)).body
    return [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("n_iters", [1, 4])
def test_algorithm_1_as_the_lesson_shows_it_is_the_library_s(shown, tiny, n_iters):
    image, mask = picture(height=64, width=64)
    low_res = downscale(picture(height=64, width=64, seed=1)[0])
    settings = dict(lr=0.01, n_iters=n_iters, erosion=5)
    steps = []
    expected = predict_and_refine(image, mask, low_res, tiny, callback=steps.append, **settings)
    given, losses = shown["predict_and_refine"](image, mask, low_res, tiny, **settings)
    assert torch.allclose(given, expected, rtol=0, atol=1e-12)
    assert losses == pytest.approx([step.loss for step in steps[:-1]], abs=1e-12)
    assert not torch.allclose(given, shown["predict_and_refine"](image, mask, low_res, tiny, lr=0.02, n_iters=n_iters)[0])


def notebook_of(*sources, tags=()):
    cells = [nbformat.v4.new_code_cell(text) for text in sources]
    cells[-1].metadata["tags"] = list(tags)
    return nbformat.v4.new_notebook(cells=cells)


def test_a_lesson_runs_without_a_screen_and_leaves_its_figure_and_page(tmp_path):
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn')"
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook_of("1 + 1", draw, tags=["figure:line"]), path)
    command = [sys.executable, "-m", "refine_lib.workshop.lessons", path, "--figures", tmp_path / "figures", "--store"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / "figures" / "line.png") in run.stdout and "2/2" in run.stderr
    assert (tmp_path / "figures" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert "drawn" in (tmp_path / "figures" / "lesson.html").read_text()
    stored = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2]
    assert stored.cells[0].outputs[0].data == {"text/plain": "2"}
    assert "image/png" not in json.dumps(stored) and "drawn" in json.dumps(stored)


def test_a_lesson_that_raises_is_reported(tmp_path):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook_of("1 / 0"), path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path)
    run = subprocess.run([sys.executable, "-m", "refine_lib.workshop.lessons", path], capture_output=True, text=True)
    assert run.returncode == 1 and "did not run to its end" in run.stderr and "ZeroDivisionError" in run.stderr


def test_a_figure_that_was_not_drawn_is_named():
    with pytest.raises(ValueError, match="'figure:x' drew no picture"):
        figures(notebook_of("1", tags=["figure:x"]))
    assert lighten(notebook_of("1")).cells[0].outputs == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestInstallCell:
    def asked(self, path, monkeypatch, **environment):
        """What the cell asks of a notebook's shell and of Colab, where these variables are set."""
        asked = []
        for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        output = types.SimpleNamespace(enable_custom_widget_manager=lambda: asked.append(("widgets", "")))
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
        monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(output=output))
        shell = types.SimpleNamespace(run_line_magic=lambda *words: asked.append(words))
        exec(source(code_cells(path)[0]), {"get_ipython": lambda: shell})
        return asked

    def test_it_does_nothing_on_a_machine_of_one_s_own(self, path, monkeypatch):
        assert self.asked(path, monkeypatch) == []

    def test_it_installs_where_there_is_nothing_yet(self, path, monkeypatch):
        install = ("pip", "install --quiet 'refine_lib[lab]'")
        assert self.asked(path, monkeypatch, KAGGLE_KERNEL_RUN_TYPE="Interactive") == [install]
        has_panel = path.stem.startswith("05")
        assert self.asked(path, monkeypatch, COLAB_RELEASE_TAG="release") == [install] + [("widgets", "")] * has_panel
