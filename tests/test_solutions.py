"""Each exercise of the course has a solution, and the solution goes through the lesson's own check."""

import ast
import copy
import re

import nbformat
import pytest
from conftest import ROOT

from refine_lib.workshop.lessons import lighten

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = ROOT / "notebooks" / "solutions"


def exercises(notebook):
    """From the number of an exercise to its code: the numbered items under "On your own"."""
    found, number, on_your_own = {}, None, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("## "):
                    on_your_own, number = line == "## On your own", None
                elif on_your_own and (item := re.match(r"(\d+)\. ", line)):
                    number = int(item[1])
                    found[number] = []
        elif number is not None:
            found[number].append(cell.source)
    return found


def solved(notebook):
    """From the number of an exercise to the code of its solution: what stands below a heading with that number."""
    found, number = {}, None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if heading := re.match(r"#+ (?:(\d+)\. )?", line):
                    number = heading[1] and int(heading[1])
                    found |= {number: []} if number else {}
        elif number:
            found[number].append(cell.source)
    return found


def asserted(sources):
    return [ast.unparse(node) for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


WITH_EXERCISES = [path for path in LESSONS if exercises(nbformat.read(path, as_version=4))]


def test_there_are_solutions_to_every_lesson_with_exercises():
    assert len(WITH_EXERCISES) >= 7
    assert [path.name for path in sorted(SOLUTIONS.glob("*.ipynb"))] == [path.name for path in WITH_EXERCISES]


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
class TestSolutions:
    @pytest.fixture
    def lesson(self, path):
        return nbformat.read(path, as_version=4)

    @pytest.fixture
    def solutions(self, path):
        return nbformat.read(SOLUTIONS / path.name, as_version=4)

    def test_every_exercise_has_its_solution_and_the_same_check(self, lesson, solutions):
        asked, given = exercises(lesson), solved(solutions)
        assert list(asked) == list(given) == list(range(1, len(asked) + 1))
        for number in asked:
            assert asserted(given[number]) == asserted(asked[number]), f"exercise {number}"

    def test_no_exercise_is_solved_in_the_lesson(self, lesson):
        """The place for the answer holds None, and what depends on it is left out."""
        for number, sources in exercises(lesson).items():
            lines = [ast.unparse(node) for source in sources for node in ast.parse(source).body]
            assert any(re.fullmatch(r"[\w, ()]+ = [(]?None(, None)*[)]?", line) for line in lines), number
            assert not any(line.startswith("assert") for line in lines), number

    def test_it_was_run_and_is_stored_as_the_lessons_are(self, solutions):
        cells = [cell for cell in solutions.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert sum(bool(cell.outputs) for cell in cells) >= 1
        assert all(len(line) <= 90 for cell in cells for line in cell.source.splitlines())
        assert solutions == lighten(copy.deepcopy(solutions))
        assert not any("None" in source.splitlines()[0] for sources in solved(solutions).values() for source in sources)

    def test_it_gives_two_or_more_sentences_of_why(self, solutions):
        texts = [cell.source for cell in solutions.cells if cell.cell_type == "markdown"]
        for text in (text for text in texts if re.match(r"## \d", text)):
            heading, _, why = text.partition("\n\n")
            assert "\n" not in heading and len(re.findall(r"[.:?!] ?", why)) >= 2, heading
