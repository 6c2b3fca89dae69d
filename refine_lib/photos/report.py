"""What became of the photos of a job, as a table on the console and as a CSV file."""

import csv
import textwrap
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from refine_lib.photos.files import check_output
from refine_lib.photos.opened import Source
from refine_lib.whole import whole_file

# ``hole_percent`` is of the photo's pixels, with what ``dilation`` added. ``levels`` are those of the window that had most. The
# losses are those of a window's finest level that was refined, before the first update and behind the last; of several windows
# it is their mean. ``state`` is filled, there already, failed or stopped, and ``note`` is what there is to say of it.
NUMBERS = ("hole_percent", "levels", "loss_before", "loss_after", "seconds")
COLUMNS = ("photo", "mask", "output", "state", *NUMBERS, "note")


def row(job: Any, state: str, words: str, photo: Any = None) -> dict[str, str]:
    """A row of the table: for a ``Job``, and for its ``InpaintedPhoto`` where there is one."""
    paths = {"photo": job.photo, "mask": job.mask or "", "output": photo.path if photo else job.output}
    numbers = {}
    if photo:
        finest = [levels[-1] for levels in (list(filter(None, result.losses)) for result in photo.results) if levels]
        numbers = {"hole_percent": 100 * photo.mask.double().mean().item(), "seconds": photo.seconds}
        numbers |= {"levels": max((result.n_levels for result in photo.results), default=0)}
        if finest:
            numbers |= {"loss_before": fmean(level[0] for level in finest), "loss_after": fmean(level[-1] for level in finest)}
    said = " ".join(words.split())
    texts = {"name": job.name, "state": state, "note": said} | {name: str(path) for name, path in paths.items()}
    return dict.fromkeys(COLUMNS, "") | texts | {name: f"{number:.5g}" for name, number in numbers.items()}


def table(rows: list[dict[str, str]]) -> str:
    """Rows as text for the console, with no more than the first words of the notes."""
    heads = ("name", "state", *NUMBERS, "note")
    lines = [[head.replace("_", " ") for head in heads]]
    lines += [[*(row[head] for head in heads[:-1]), textwrap.shorten(row["note"], 60, placeholder=" ...")] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def kept_rows(path: Path) -> dict[str, dict[str, str]] | None:
    """The rows of an earlier report by their output, for the same command that goes on; None where there is no report."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            return {line["output"]: line for line in lines} if lines.fieldnames == list(COLUMNS) else None
    except (OSError, UnicodeError, csv.Error):
        return None


def check_report(path: Path, folder: Path | None, overwrite: bool, sources: Iterable[Source]) -> None:
    """Raises unless a report can be written to a path. ``folder`` is one that may be made yet, or None."""
    overwrite = overwrite or kept_rows(path) is not None
    try:
        check_output(path, overwrite, sources, "report", (".csv",))
    except FileNotFoundError:
        if folder is None or path.parent.resolve() != folder.resolve():
            raise


def write_report(rows: list[dict[str, str]], path: Path, overwrite: bool) -> None:
    """Writes the rows whole or not at all, in UTF-8.

    Raises:
        OSError: where that fails.
    """
    with whole_file(path, overwrite) as part:
        with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([COLUMNS, *([row[column] for column in COLUMNS] for row in rows)])
