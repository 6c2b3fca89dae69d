"""What a notebook must be, so that comparing it means something and GitHub shows it; and running one without a screen."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbclient.exceptions import CellExecutionError

import refine_lib
from refine_lib.lessons import execute, figures, lighten

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS][0] == "00_quickstart.ipynb"


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
        for line in "\n".join(map(source, code_cells(path))).splitlines():
            if match := re.match(r"from refine_lib import (.*)", line):
                for name in match[1].split(","):
                    assert name.strip() in [*refine_lib.__all__, "plots"]
            assert not re.search(r"\b_[a-z]\w+\(|\._[a-z]", line)


def notebook_of(*sources, tags=()):
    cells = [nbformat.v4.new_code_cell(text) for text in sources]
    cells[-1].metadata["tags"] = list(tags)
    return nbformat.v4.new_notebook(cells=cells)


def test_a_lesson_runs_without_a_screen_and_leaves_its_figure_and_page(tmp_path):
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn')"
    path = tmp_path / "lesson.ipynb"
    nbformat.write(notebook_of("1 + 1", draw, tags=["figure:line"]), path)
    command = [sys.executable, "-m", "refine_lib.lessons", path, "--figures", tmp_path / "figures", "--store"]
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
    run = subprocess.run([sys.executable, "-m", "refine_lib.lessons", path], capture_output=True, text=True)
    assert run.returncode == 1 and "did not run to its end" in run.stderr and "ZeroDivisionError" in run.stderr


def test_a_figure_that_was_not_drawn_is_named():
    with pytest.raises(ValueError, match="'figure:x' drew no picture"):
        figures(notebook_of("1", tags=["figure:x"]))
    assert lighten(notebook_of("1")).cells[0].outputs == []
