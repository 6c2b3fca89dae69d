"""The slides of a class: what they show is fetched from the course, and the page needs no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import nbformat
import pytest
from browser import browser  # noqa: F401
from conftest import ROOT

from refine_lib.workshop.slides import build, cells_at, picture, printed, read_deck, render, table

DECK = (ROOT / "notebooks" / "slides.md").read_text(encoding="utf-8")


class Resources(HTMLParser):
    """What a page asks for as it is shown, and the pictures that it describes."""

    def __init__(self, page):
        super().__init__()
        self.asked, self.described = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        named = {"link": "href"}.get(tag, "src")
        if tag != "a" and named in attributes:
            self.asked.append(attributes[named])
        if tag == "img":
            self.described.append(attributes["alt"])


@pytest.fixture(scope="module")
def page():
    return build(DECK)


def test_the_page_needs_no_network(page):
    resources = Resources(page)
    assert len(resources.asked) >= 8 and all(link.startswith("data:image/") for link in resources.asked)
    assert all(len(text) >= 20 for text in resources.described)
    assert not re.search(r"url\(|@import|fetch\(|import\(|XMLHttpRequest", page)


def test_the_deck_is_a_class_of_45_minutes(page):
    slides = read_deck(DECK)
    assert 14 <= len(slides) <= 18 and sum(slide.minutes for slide in slides) == 45
    assert page.count("<section ") == page.count("<aside>") == len(slides)
    assert sum("exercise" in slide.text.lower().splitlines()[0] for slide in slides) == 2
    assert not re.search(r"^@(picture|printed|code|table)|<!-- ", page, flags=re.M)


def test_no_measured_number_is_written_into_the_deck():
    """What a lesson prints has a point; of such numbers a deck may hold what the paper sets."""
    text = re.sub(r"<[^>]+>|arXiv [\d.]+", "", DECK)
    assert set(re.findall(r"\d+\.\d+", text)) <= {"0.002", "0.005"}


@pytest.fixture
def course(tmp_path):
    """A course of one lesson, with a figure."""
    cells = [
        nbformat.v4.new_markdown_cell("# A lesson\n\ntext\n\n## First"),
        nbformat.v4.new_code_cell("1 < 2", outputs=[nbformat.v4.new_output("stream", name="stdout", text="a 1\nb 2 < 3\n")]),
        nbformat.v4.new_markdown_cell("![A figure of four curves](../figures/four.png)"),
        nbformat.v4.new_code_cell("2", outputs=[nbformat.v4.new_output("stream", name="stderr", text="a warning")]),
        nbformat.v4.new_markdown_cell("## Second"),
        nbformat.v4.new_code_cell("3", metadata={"tags": ["figure:four"]}),
    ]
    for folder in ("notebooks", "figures"):
        (tmp_path / folder).mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01_lesson.ipynb")
    (tmp_path / "figures" / "four.png").write_bytes(b"PNG")
    (tmp_path / "page.md").write_text("Here:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nAnd:\n\n| c |\n|---|\n| 3 |\n")
    return tmp_path


def test_parts_of_the_course_are_fetched(course):
    assert [cell.source for cell in cells_at("01_lesson", "First", course)] == ["1 < 2", "2"]
    assert [cell.source for cell in cells_at("01_lesson", "figure:four", course)] == ["3"]
    assert "<pre>a 1\nb 2 &lt; 3</pre>" in printed("01_lesson", "First", root=course)
    assert "<pre>b 2 &lt; 3</pre>" in printed("01_lesson", "First", "^b", root=course)
    shown = picture("four", course)
    assert 'alt="A figure of four curves" src="data:image/png;base64,UE5H"' in shown and "lesson 1" in shown
    assert "| 3 |" in table("page.md", "And:", course) and "| 1 |" not in table("page.md", "And:", course)
    slide = render('## Title\n\n@code 01_lesson figure:four\n\n@table page.md "Here:"\n\nmore', course)
    assert "<td>2</td>" in slide and '<span class="mi">3</span>' in slide and "more" in slide


@pytest.mark.parametrize(
    "line, message",
    [
        ("@picture five", "no lesson shows a figure 'five'"),
        ("@printed 01_lesson Third", "no code cell has the tag or stands under the heading 'Third'"),
        ("@printed 01_lesson First ^c", "nothing printed at 'First' matches"),
        ("@printed 01_lesson Second", "nothing printed at 'Second'"),
        ("@table page.md There", "no table stands after 'There'"),
        ("@video x", "asks for @video; expected one of picture, printed"),
    ],
)
def test_what_is_not_in_the_course_is_named(course, line, message):
    with pytest.raises(ValueError, match=message):
        render(line, course)


def test_a_slide_without_notes_is_named():
    with pytest.raises(ValueError, match="slide 2 has 0 lines like"):
        read_deck("# One\n\nNotes (1 minute):\nhello\n---\n## Two\n")


def test_the_command_writes_the_page(tmp_path):
    deck = tmp_path / "deck.md"
    deck.write_text("# One < two\n\nNotes (2 minutes):\nhello\n")
    command = [sys.executable, "-m", "refine_lib.workshop.slides", deck, "-o", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"1 slides, 2 minutes, wrote {tmp_path / 'out' / 'deck.html'}\n"
    assert "<title>One &lt; two</title>" in (tmp_path / "out" / "deck.html").read_text()


@pytest.mark.browser
def test_every_slide_fits_and_keys_turn_the_page(browser, page, tmp_path):  # noqa: F811
    (tmp_path / "slides.html").write_text(page)
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "slides.html").as_uri())
    n_slides = len(read_deck(DECK))
    seen = []
    for number in range(1, n_slides + 1):
        assert tab.evaluate("location.hash") == (f"#{number}" if number > 1 else "")
        box = """() => {
          const slide = document.querySelector("section:not([hidden]) .slide");
          const boxes = [...slide.children].filter((e) => e.tagName !== "FOOTER").map((e) => e.getBoundingClientRect());
          const figures = [...slide.querySelectorAll("figure")].map((e) => e.getBoundingClientRect().height);
          const words = [...slide.querySelectorAll("h1, h2, li, p:not(.source), pre")];
          return [Math.max(...boxes.map((b) => b.right)), Math.max(...boxes.map((b) => b.bottom)), Math.min(720, ...figures),
                  Math.min(...words.map((e) => parseFloat(getComputedStyle(e).fontSize)))];
        }"""
        right, bottom, figure, type_size = tab.evaluate(box)
        assert right <= 1217 and bottom <= 690 and figure >= 200 and type_size >= 18, number
        seen.append(tab.inner_text("section:not([hidden]) h1, section:not([hidden]) h2"))
        assert not tab.is_visible("section:not([hidden]) aside")
        tab.keyboard.press(["ArrowRight", " ", "PageDown"][number % 3])
    assert len(set(seen)) == n_slides
    tab.keyboard.press("n")
    assert tab.is_visible("section:not([hidden]) aside")
    tab.keyboard.press("Home")
    tab.wait_for_function("location.hash === '#1'")
    tab.emulate_media(media="print")
    assert tab.evaluate("[...document.querySelectorAll('aside')].every((e) => e.scrollHeight <= e.clientHeight)")
    assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf(prefer_css_page_size=True))) == n_slides
    assert all(url.startswith(("file:", "data:")) for url in asked)
    tab.close()
