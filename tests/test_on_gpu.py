"""The command for a machine with a GPU, rehearsed on the CPU."""

import inspect
import sys

import nbformat
import pytest

from refine_lib.workshop import costs, on_gpu
from refine_lib.workshop.costs import Row
from refine_lib.workshop.on_gpu import Finding, Table, costs_of, install_kernel, losses_of, run_lesson, run_tests, table_of


def row(size, seconds, memory=5, network="big-lama", **more):
    peaks = {"refine_lib": memory * 2**30}
    return Row(network, size, 2, 15, "GPU", 1, {"refine_lib": seconds}, peak_memory=peaks, speed="channels last", **more)


@pytest.fixture
def rows():
    losses = {"refine_lib": 0.04, "exact": 0.04, "mixed": 0.0404, "polyak": 0.03}
    found = [row(512, 1.0, network="mini-lama", losses=losses), row(1024, 2.0), row(2048, 9.5, memory=11), row(4096, 42.0)]
    found[1].seconds |= {"mixed": 0.9, "polyak": 0.7, "exact": 3.0, "authors": 4.0}
    return found


def test_what_is_wanted_of_a_gpu_is_held_beside_what_was_found(rows):
    assert [(f.found, f.met) for f in losses_of(rows[0])] == [("+1.0%", True), ("-25.0%", True)]
    ours, mixed, polyak, *sizes, growth = costs_of(rows[1:])
    assert [(f.found, f.met) for f in (ours, mixed, polyak)] == [("0.50", False), ("0.23", True), ("0.17", None)]
    assert [f.met for f in sizes] == [True] * 3 and sizes[1].found == "9.5 s, 11.0 GB (channels last)"
    assert growth.found == "1.01 x" and growth.met  # 42 s for 16 times the pixels, of which there are two levels more


def test_what_is_not_reached_is_said(rows):
    rows[0].losses |= {"polyak": 0.05, "mixed": 0.06}
    rows[2].peak_memory["refine_lib"], rows[3].seconds["refine_lib"] = 13 * 2**30, 90.0
    assert [f.met for f in losses_of(rows[0])] == [False, False]
    findings = costs_of(rows[1:])
    assert [f.met for f in findings[3:]] == [True, False, True, False]
    line = "| big-lama, 2048 px: completes | within 12 GB | 9.5 s, 13.0 GB (channels last) | NO |"
    assert line in table_of(findings).splitlines()


def test_what_was_not_measured_has_no_line(rows):
    del rows[1].seconds["authors"], rows[0].losses["mixed"]
    assert len(losses_of(rows[0])) == 1 and [f.what for f in costs_of(rows[1:2])] == ["big-lama, 1024 px: completes"]


def test_a_lesson_runs_in_a_kernel_that_computes_on_the_one_device(tmp_path):
    environment = install_kernel(tmp_path, "cpu")
    cells = ["import os", "raise ValueError('it computes on ' + os.environ['REFINE_DEVICE'])"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "01.ipynb")
    finding = run_lesson(tmp_path / "01.ipynb", tmp_path, environment)
    assert finding.what == "lesson 01" and finding.met is False and "it computes on cpu" in finding.found
    said = (tmp_path / "lesson_01.txt").read_text()
    assert "01.ipynb did not run to its end" in said and "Traceback" in said


@pytest.mark.parametrize(("body", "met"), [("assert False", False), ("pytest.skip('no GPU')", None)])
def test_the_gpu_tests_are_run_and_what_they_print_is_kept(body, met, tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    test = f"import pytest\n@pytest.mark.gpu\ndef test_it():\n    {body}\ndef test_other():\n    assert False\n"
    (tmp_path / "tests" / "test_gpu.py").write_text(test)
    finding = run_tests(tmp_path)
    assert finding.met is met and "1 deselected" in finding.found
    assert finding.found in (tmp_path / "tests.txt").read_text()


def test_a_table_is_there_from_the_first_finding_on_and_survives_what_fails(tmp_path, capsys):
    table = Table(tmp_path / "table.md", "made here")
    assert table.add("one", lambda: [Finding("one", "yes", "a|b", True)])
    assert not table.add("two", lambda: [][0])
    page = (tmp_path / "table.md").read_text()
    assert "| one | yes | a/b | yes |" in page and "| two | yes | IndexError: list index out of range | NO |" in page
    assert page.endswith("\n\nmade here\n") and "IndexError" in capsys.readouterr().out


def test_the_command_prints_a_table_and_says_by_its_code_whether_all_is_met(tmp_path, monkeypatch, capsys, rows):
    real, calls = inspect.signature(costs.measure), []

    def measure(*args):
        calls.append(real.bind(*args).arguments)
        size = calls[-1]["size"]
        if size == 4096:
            raise RuntimeError("out of memory\nwhile it filled the hole")
        return next(row for row in rows if row.size == size)

    monkeypatch.setattr(on_gpu, "measure", measure)
    monkeypatch.setattr(on_gpu.Machine, "measured", lambda _: on_gpu.Machine(1e12, 1e10))
    monkeypatch.setattr(on_gpu, "run_tests", lambda _: Finding("GPU tests", "all pass", "8 passed", True))
    monkeypatch.setattr(on_gpu, "install_kernel", lambda *_: {})
    monkeypatch.setattr(on_gpu, "run_lesson", lambda *_: Finding("lesson", "runs to its end", "9 s", True))
    monkeypatch.setattr(sys, "argv", f"on_gpu -o {tmp_path}/new --device cpu".split())
    with pytest.raises(SystemExit) as end:
        on_gpu.main()
    assert end.value.code == 1
    assert [(c["name"], c["size"], c["mixed"], c["only"]) for c in calls] == [
        ("mini-lama", 512, True, None),
        ("big-lama", 1024, True, None),
        ("big-lama", 2048, True, ["refine_lib"]),
        ("big-lama", 4096, True, ["refine_lib"]),
    ]
    page = (tmp_path / "new" / "table.md").read_text()
    assert page in capsys.readouterr().out
    assert "| big-lama, 4096 px: completes | yes | RuntimeError: while it filled the hole | NO |" in page
    assert "| GPU tests | all pass | 8 passed | yes |" in page and "2048 beside 1024 px" in page
    assert (tmp_path / "new" / "speed.json").is_file()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("-o {here}", "which is there already; expected a new name"),
        ("-o {here}/new --device cuda:77", "asks for 'cuda:77', which is not there"),
        ("-o {here}/new --device cpu --baseline {here}", "expected a checkout of advimman/lama"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_run(more, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["on_gpu", *more.format(here=tmp_path).split()])
    with pytest.raises(SystemExit):
        on_gpu.main()
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_what_cannot_be_imported_is_said_before_anything_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_gpu, "NEEDED", ("no_such_package",))
    monkeypatch.setattr(sys, "argv", f"on_gpu -o {tmp_path}/new --device cpu".split())
    with pytest.raises(SystemExit):
        on_gpu.main()
    assert "no_such_package cannot be imported; install the extras" in capsys.readouterr().err
