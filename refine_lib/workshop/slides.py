"""Makes the slides of the course: ``python -m refine_lib.workshop.slides notebooks/slides.md -o build/slides``.

One file of HTML comes out. It holds its pictures and needs no network. The deck is Markdown: a line ``---`` begins a slide, and
``Notes (3 minutes):`` what the speaker says. What was measured is not written there but fetched from where it stands:

    @picture NAME                        figures/NAME, with the alternative text that the course gives it
    @printed LESSON PLACE [EXPRESSION]   what the lesson prints there: all lines, or those that the expression matches
    @code LESSON PLACE                   the code cells there, as they stand
    @table FILE TEXT                     the first table after this text in a file of Markdown

A place is a tag, as ``figure:levels``, or a heading, as "When it fails": that is all cells up to the next heading.
"""

import argparse
import base64
import html
import mimetypes
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Slide:
    """A slide's Markdown, the speaker's notes, and how many minutes both take."""

    text: str
    notes: str
    minutes: int


def read_deck(text):
    """The slides of a deck, in order."""
    parts = re.split(r"^---$", re.sub(r"<!--.*?-->", "", text, flags=re.S), flags=re.M)
    slides = []
    for number, part in enumerate(parts, start=1):
        found = re.split(r"^Notes \((\d+) minutes?\):", part, flags=re.M)
        if len(found) != 3:
            raise ValueError(f"slide {number} has {len(found) // 2} lines like 'Notes (3 minutes):'; expected one")
        slides.append(Slide(found[0].strip(), found[2].strip(), int(found[1])))
    return slides


def cells_at(lesson, place, root=ROOT):
    """The code cells of a lesson with a tag, or under a heading.

    Raises:
        ValueError: where there is none.
    """
    found, inside = [], False
    for cell in nbformat.read(root / "notebooks" / f"{lesson}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^#+ +(.+?) *$", cell.source, flags=re.M):
                inside = heading == place
        elif inside or place in cell.metadata.get("tags", []):
            found.append(cell)
    if not found:
        raise ValueError(f"{lesson}: no code cell has the tag or stands under the heading {place!r}; the slides need it")
    return found


def printed(lesson, place, expression="", root=ROOT):
    """What a lesson prints at a place, as it is stored."""
    outputs = [output for cell in cells_at(lesson, place, root) for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.get("name") == "stdout")
    lines = [line for line in text.splitlines() if re.search(expression, line)]
    if not lines:
        raise ValueError(f"{lesson}: nothing printed at {place!r} matches {expression!r}; the slides need it")
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>\n{source_of(lesson, 'printed')}"


def code(lesson, place, root=ROOT):
    cells = "\n\n".join(cell.source for cell in cells_at(lesson, place, root))
    return f"```python\n{cells}\n```\n\n{source_of(lesson, 'a cell')}"


def picture(name, root=ROOT):
    """A figure of the course, inside the page; its alternative text is that of the lesson which shows it."""
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        shown = re.search(rf"!\[([^\]]+)\]\(\.\./figures/({re.escape(name)}\.\w+)\)", path.read_text(encoding="utf-8"))
        if shown:
            alternative, file = shown.groups()
            data = base64.b64encode((root / "figures" / file).read_bytes()).decode()
            link = f"data:{mimetypes.guess_type(file)[0]};base64,{data}"
            return f'<figure><img alt="{html.escape(alternative)}" src="{link}"></figure>\n{source_of(path.stem, "figure")}'
    raise ValueError(f"no lesson shows a figure {name!r}; the slides need it")


def table(file, text, root=ROOT):
    after = (root / file).read_text(encoding="utf-8").partition(text)[2]
    rows = re.search(r"(?:^\|.*\|$\n?)+", after, flags=re.M)
    if not rows:
        raise ValueError(f"{file}: no table stands after {text!r}; the slides need it")
    return f'{rows[0]}\n<p class="source">{html.escape(text)} {html.escape(file)}</p>'


def source_of(lesson, what):
    return f'<p class="source">{what}: lesson {int(lesson[:2])}, notebooks/{lesson}.ipynb</p>'


FETCHED = {"picture": picture, "printed": printed, "code": code, "table": table}


def render(markdown, root=ROOT):
    """Markdown with its fetched parts, as HTML."""

    def fetch(match):
        name, *arguments = shlex.split(match[1])
        if name not in FETCHED:
            raise ValueError(f"a slide asks for @{name}; expected one of {', '.join(FETCHED)}")
        return FETCHED[name](*arguments, root=root)

    fetched = re.sub(r"^@(.+)$", fetch, markdown, flags=re.M)
    return MarkdownWithMath(renderer=IPythonRenderer(escape=False, exclude_anchor_links=True)).render(fetched)


def build(deck, root=ROOT):
    """The page of a deck, given as text."""
    slides = read_deck(deck)
    body, past = [], 0
    for number, slide in enumerate(slides, start=1):
        time = f"{past} to {past + slide.minutes} min" if slide.minutes else "after class"
        past += slide.minutes
        body.append(
            f'<section aria-label="slide {number} of {len(slides)}"><div class="slide">\n{render(slide.text, root)}\n'
            f'<footer>{number} / {len(slides)}</footer></div>\n<aside><p class="time">{time}</p>\n'
            f"{render(slide.notes, root)}</aside></section>"
        )
    title = re.search(r"^# +(.+)$", slides[0].text, flags=re.M)
    page = TEMPLATE.read_text(encoding="utf-8").replace("<!-- colors of code -->", HtmlFormatter().get_style_defs(".highlight"))
    page = page.replace("<!-- title -->", html.escape(title[1]) if title else "Slides")
    return page.replace("<!-- slides -->", "\n".join(body))


def main():
    parser = argparse.ArgumentParser(description="Make slides that need no network.")
    parser.add_argument("deck", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the page")
    arguments = parser.parse_args()
    text = arguments.deck.read_text(encoding="utf-8")
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = arguments.output / f"{arguments.deck.stem}.html"
    written.write_text(build(text), encoding="utf-8")
    slides = read_deck(text)
    print(f"{len(slides)} slides, {sum(slide.minutes for slide in slides)} minutes, wrote {written.resolve()}")


if __name__ == "__main__":
    main()
