"""The site: every link from a page of it leads to a page of it, or to a file that is no page."""

import re

import nbformat
import pytest
import yaml
from conftest import ROOT

PAGES = (".md", ".ipynb")


def pages():
    """The files of the table of contents."""
    contents = yaml.safe_load((ROOT / "notebooks" / "_toc.yml").read_text())
    files = [contents["root"], *(chapter["file"] for chapter in contents["chapters"] if "file" in chapter)]
    named = {ROOT / (file + ending) for file in files for ending in PAGES}
    found = {path for chapter in contents["chapters"] if "glob" in chapter for path in ROOT.glob(chapter["glob"])}
    return sorted(path for path in named | found if path.is_file())


def text_of(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.S)
    for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        target = (page.parent / link).resolve()
        assert target.is_file(), f"{link} is no file"
        assert target.suffix not in PAGES or target in pages(), f"{link} is not a page of the site"


def heads_of(path):
    """The headings of a page, as links name them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(path), flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_every_link_to_a_heading_finds_one(page):
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.S)
    for link, head in re.findall(r"\]\((?!\w+:)([^)#\s]*)#([^)\s]+)\)", text):
        target = (page.parent / link).resolve() if link else page
        assert head in heads_of(target), f"{link} has no heading {head}"


def test_all_lessons_and_solutions_are_pages():
    notebooks = {path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert notebooks <= set(pages())
