"""New weights in the package, and everything that shows them made again."""

import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

from refine_lib import LamaGenerator
from refine_lib.networks.registry import save_generator
from refine_lib.workshop import documents
from refine_lib.workshop.ship import MOST_BYTES, embedded, put, ship, stale, steps

COMMAND = ".venv/bin/python -c \"print('wrote a.png'); print('| L1 |'); print('| 0.0{n}5 |')\""
CARD = """# A card

`{command}`

<!-- printed -->

| L1 |
| 0.035 |

<!-- end -->

Refined, 0.035 is 12% less. A plain pass is not touched: 0.5.
"""


@pytest.fixture
def clone(tmp_path):
    """A clone with one lesson, one network and a card."""
    networks = tmp_path / "refine_lib" / "networks"
    networks.mkdir(parents=True)
    shutil.copy(embedded(ROOT)["mini-lama"], networks)
    (networks / "MINI_LAMA.md").write_text(CARD.format(command=COMMAND.format(n=4)))
    lesson = [
        nbformat.v4.new_markdown_cell("The loss falls to 0.31."),
        nbformat.v4.new_code_cell("loss", outputs=[nbformat.v4.new_output("stream", text="0.3105\n")]),
    ]
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=lesson), tmp_path / "notebooks" / "00_first.ipynb")
    return tmp_path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "new.safetensors"
    save_generator(LamaGenerator(ngf=2, n_blocks=1), path, half=True)
    return path


def test_weights_take_the_place_of_those_in_the_package(clone, weights):
    put("mini-lama", weights, clone)
    assert embedded(clone)["mini-lama"].read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("big-lama", None, "NETWORK is 'big-lama'; expected one that comes with the package: mini-lama, mini-conv"),
        ("mini-lama", bytes(MOST_BYTES + 1), "8.0 MB; expected 8 MB or less"),
        ("mini-lama", b"not weights", "new.safetensors"),
    ],
)
def test_what_cannot_be_shipped_leaves_the_package_as_it_was(clone, weights, name, content, message):
    before = embedded(clone)["mini-lama"].read_bytes()
    if content:
        weights.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        put(name, weights, clone)
    assert embedded(clone)["mini-lama"].read_bytes() == before


def test_a_documents_tables_are_made_again(tmp_path):
    document = tmp_path / "card.md"
    document.write_text(CARD.format(command=COMMAND.format(n=4)))
    assert documents.renew(document) == 1
    text = document.read_text()
    assert documents.printed(text) == ["| L1 |\n| 0.045 |"], "and the line about a file that was written is left out"
    assert text == CARD.format(command=COMMAND.format(n=4)).replace("| 0.035", "| 0.045"), "nothing else changes"


@pytest.mark.parametrize("command", ["rm -r figures", ".venv/bin/python -c 'raise SystemExit(3)'"])
def test_a_command_that_is_not_ours_or_fails_leaves_the_document(tmp_path, command):
    document = tmp_path / "card.md"
    document.write_text(before := CARD.format(command=command))
    with pytest.raises((ValueError, subprocess.CalledProcessError)):
        documents.renew(document)
    assert document.read_text() == before


def test_sentences_whose_numbers_are_printed_no_more_are_found():
    text = "It falls to 0.31. It was 0.5 before; by 26% in all. The rate is 0.005.\nThere are 15 updates."
    assert stale(text, "0.3105 0.005 26.4%", "0.2901 0.005 31.2%") == [
        (["0.31"], "It falls to 0.31."),
        (["26"], "by 26% in all."),
    ]
    assert stale(text, "0.3105 0.005", "0.3149 0.005") == [], "0.31 is still right"


def test_an_interrupted_run_goes_on_and_says_what_to_read_again(clone, weights):
    there = clone / "notebooks" / "00_first.ipynb"
    changed = f"from pathlib import Path; p = Path({str(there)!r}); p.write_text(p.read_text().replace('0.3105', '0.2901'))"
    counted = "open('counted.txt', 'a').write('.')"
    plan = {
        "lesson": [sys.executable, "-c", f"{changed}; {counted}"],
        "card": [sys.executable, "-c", "open('second_time')"],
        "Table 1": [sys.executable, "-c", "import os; assert os.path.exists('counted.txt'), 'after those that run together'"],
    }
    with pytest.raises(subprocess.CalledProcessError):
        ship({"mini-lama": weights}, clone, plan)
    (clone / "second_time").touch()
    text = ship({"mini-lama": weights}, clone, plan, jobs=2).read_text()
    assert (clone / "counted.txt").read_text() == ".", "what was done is not done again"
    assert "- **0.31**: The loss falls to 0.31." in text and "0.035" not in text, "what the card printed did not change"
    assert embedded(clone)["mini-lama"].read_bytes() == weights.read_bytes()


def test_every_lesson_solution_and_table_is_made_again():
    lessons = {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    names = set(steps(ROOT))
    assert len(lessons) == 8 and names > {f"lesson {stem}" for stem in lessons} | {"model card", "Table 1", "panel"}


def test_the_cards_commands_are_found():
    card = (ROOT / "refine_lib" / "networks" / "MINI_LAMA.md").read_text(encoding="utf-8")
    assert (
        len(documents.printed(card)) == card.count(documents.BEGIN) == card.count("\n`.venv/bin/python -m refine_lib.workshop.")
    )
