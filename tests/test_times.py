"""The page that says how long the course takes."""

import re

import nbformat
import pytest
from conftest import ROOT

from refine_lib.workshop.times import SHORT_PATH, as_page, count, measure, stored

PAGE = (ROOT / "notebooks" / "TIMES.md").read_text(encoding="utf-8")
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture
def lesson(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# 3. Watch\n\nFour words [and more](a_long_address.html)."),
        nbformat.v4.new_code_cell("import os", metadata={"tags": ["install"]}),
        nbformat.v4.new_code_cell("a = 1\n\nfor i in range(3 * 10**6):\n    a += 1"),
        nbformat.v4.new_markdown_cell("![a figure that is not read](../figures/x.png)"),
        nbformat.v4.new_markdown_cell("1. no exercise\n\n## On your own\n\n1. One\n2. Two"),
    ]
    path = tmp_path / "03_watch_the_loss.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_what_is_read_and_done_is_counted(lesson):
    counted = count(lesson)
    assert counted.title == "3. Watch" and (counted.lines, counted.figures, counted.exercises, counted.trials) == (3, 1, 2, 0)
    assert counted.words == len("3 Watch Four words and more 1 no exercise On your own 1 One 2 Two".split())
    assert counted.reading == pytest.approx(counted.words / 200 + 3 / 10 + 1 / 2)
    assert counted.practice == 20


def test_a_page_keeps_its_seconds_and_is_the_same_when_it_is_written_again(lesson):
    lessons = [count(lesson)]
    page = as_page(lessons, {lesson.stem: 90.0}, "CPU, 1 thread")
    assert "| 90 | 20 | 22 |" in page and "**0.4 hours**" in page and "**(short path)**" in page
    assert as_page(lessons, *stored(page, lessons)) == page
    with pytest.raises(ValueError, match="no seconds for 03_watch_the_loss"):
        stored("", lessons)


def test_computing_is_measured_in_seconds_of_a_processor(lesson):
    assert 0.05 < measure(lesson) < 60


def test_the_page_of_the_course_names_every_lesson():
    lessons = [count(path) for path in LESSONS]
    seconds, _ = stored(PAGE, lessons)
    assert all(1 < value < 300 for value in seconds.values())
    assert re.findall(r"\]\((\w+)\.ipynb\)", PAGE) == [path.stem for path in LESSONS]


def test_readme_marks_the_same_short_path():
    table = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [`0")]
    rows = [line for line in table if "**short path**" in line]
    assert [re.search(r"notebooks/(\w+)\.ipynb", row)[1] for row in rows] == list(SHORT_PATH)
