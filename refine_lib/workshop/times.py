"""How long the course takes: ``python -m refine_lib.workshop.times notebooks/TIMES.md`` writes its table anew.

Reading is counted from the lessons as they stand. Computing is measured with ``--run``, which runs every lesson; without it the
seconds that the file has are kept. Exercises are an estimate.
"""

import argparse
import re
import resource
from dataclasses import dataclass
from pathlib import Path

import nbformat

from refine_lib.device import describe, pick_device
from refine_lib.workshop.lessons import execute
from refine_lib.workshop.slides import ROOT

SHORT_PATH = ("00_quickstart", "03_watch_the_loss")  # what the method is, and Algorithm 1; the slides have the same
WORDS, LINES, FIGURES = 200, 10, 2  # that are read in a minute
EXERCISE, TRIAL = 10, 3  # minutes: a numbered item, and a thing to try
RULE = f"""\
- **Reading**: {WORDS} words of text, {LINES} lines of code or {FIGURES} figures a minute. Who types the code needs longer.
- **Computing**: seconds of a processor while all cells of the lesson run, {{measured}}.
- **Exercises**: an estimate, not a measurement: {EXERCISE} minutes for a numbered exercise, {TRIAL} for a thing to try.
- **All** is the sum of the three, in minutes."""


@dataclass(frozen=True)
class Lesson:
    """What is counted in a lesson."""

    name: str
    title: str
    words: int
    lines: int
    figures: int
    exercises: int
    trials: int

    @property
    def reading(self):
        """Minutes."""
        return self.words / WORDS + self.lines / LINES + self.figures / FIGURES

    @property
    def practice(self):
        """Minutes."""
        return EXERCISE * self.exercises + TRIAL * self.trials


def count(path):
    """Counts a lesson's words, lines of code, figures and exercises."""
    cells = nbformat.read(path, as_version=4).cells
    pictures, shown = re.compile(r"!\[[^\]]*\]\([^)]*\)"), "\n".join(c.source for c in cells if c.cell_type == "markdown")
    text = re.sub(r"\]\([^)]*\)", "]", pictures.sub("", shown))  # a link's address is not read
    title = re.search(r"^# +(.+)$", text, flags=re.M)[1]
    code = [c.source for c in cells if c.cell_type == "code" and "install" not in c.metadata.get("tags", [])]
    return Lesson(
        path.stem,
        title if title[0].isdigit() else f"{int(path.stem[:2])}. {title.partition(':')[0]}",
        len(re.findall(r"\w[\w'’.-]*", text)),
        sum(bool(line.strip()) for source in code for line in source.splitlines()),
        len(pictures.findall(shown)),
        len(re.findall(r"^\d+\. ", text.partition("## On your own")[2], flags=re.M)),
        len(re.findall(r"^- ", text.partition("## Things to try")[2], flags=re.M)),
    )


def measure(path):
    """The seconds that processors spend on running a lesson, its kernel's start included."""

    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    execute(path)
    return spent() - before


def as_page(lessons, seconds, measured):
    """The page of times, in Markdown."""

    def row(title, chosen):
        parts = [sum(lesson.reading for lesson in chosen), sum(seconds[lesson.name] for lesson in chosen)]
        practice = sum(lesson.practice for lesson in chosen)
        everything = parts[0] + parts[1] / 60 + practice
        return f"| {title} | {parts[0]:.0f} | {parts[1]:.0f} | {practice:.0f} | {everything:.0f} |", everything / 60

    lines = []
    for lesson in lessons:
        mark = " **(short path)**" if lesson.name in SHORT_PATH else ""
        lines.append(row(f"[{lesson.title}]({lesson.name}.ipynb){mark}", [lesson])[0])
    short, hours_of_short = row("**the short path**", [lesson for lesson in lessons if lesson.name in SHORT_PATH])
    whole, hours = row("**the whole course**", lessons)
    computing = sum(seconds.values()) / 60
    return f"""# How long the course takes

The whole course takes about **{hours:.1f} hours**. The computer needs {computing:.0f} minutes of them, the reader the rest.
The short path of two lessons takes about **{hours_of_short:.1f} hours**.
A class of 45 minutes sees the slides (`make slides`, from `notebooks/slides.md`) and does two exercises.

| lesson | reading, minutes | computing, seconds | exercises, minutes | all, minutes |
|---|---:|---:|---:|---:|
{chr(10).join([*lines, short, whole])}

{RULE.format(measured=measured)}

`make times` runs every lesson and writes this page anew.
`.venv/bin/python -m refine_lib.workshop.times notebooks/TIMES.md` counts again and keeps the seconds.

The short path is lesson 0, which shows what refinement does, and lesson 3, which is Algorithm 1.
Lesson 4 repeats Algorithm 1 for each level of the pyramid, so it comes next.
The exercises of all lessons are solved, [lesson by lesson](solutions/01_build_the_pyramid.ipynb).
"""


def stored(page, lessons):
    """The seconds of a page that was written before, and what they were measured with."""
    found = {lesson.name: re.search(rf"\({lesson.name}\.ipynb\)[^|]*\|[^|]*\| (\d+) \|", page) for lesson in lessons}
    missing = [name for name, match in found.items() if not match]
    if missing:
        raise ValueError(f"the page has no seconds for {', '.join(missing)}; expected them, or --run")
    return {name: float(match[1]) for name, match in found.items()}, re.search(r"lesson run, (.+)\.$", page, flags=re.M)[1]


def main():
    parser = argparse.ArgumentParser(description="Write how long the course takes.")
    parser.add_argument("page", type=Path)
    parser.add_argument(
        "--run", nargs="*", metavar="LESSON", help="run these lessons, as 03, or all, and measure their seconds"
    )
    arguments = parser.parse_args()
    paths = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    lessons = [count(path) for path in paths]
    if arguments.run == []:
        seconds, measured = {path.stem: measure(path) for path in paths}, describe(pick_device())
    else:
        seconds, measured = stored(arguments.page.read_text(encoding="utf-8"), lessons)
        chosen = [path for path in paths if any(map(path.stem.startswith, arguments.run or ()))]
        if chosen and measured != describe(pick_device()):
            parser.error(
                f"the page was measured with {measured}, this is {describe(pick_device())}; expected the same, or all lessons"
            )
        seconds |= {path.stem: measure(path) for path in chosen}
    arguments.page.write_text(as_page(lessons, seconds, measured), encoding="utf-8")
    print(f"wrote {arguments.page.resolve()}")


if __name__ == "__main__":
    main()
