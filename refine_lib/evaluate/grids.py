"""Pictures of an evaluation: every method side by side, and the plain pass beside the refined one around the hole."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from refine_lib.evaluate.methods import TRUTH
from refine_lib.evaluate.pictures import Picture
from refine_lib.evaluate.run import picture_path
from refine_lib.evaluate.tables import Table
from refine_lib.loss import bounding_box
from refine_lib.metrics import l1
from refine_lib.photos.pixels import load_photo
from refine_lib.plots import show_picture
from refine_lib.plots.style import house_style, write_caption
from refine_lib.whole import whole_file

LETTERS = 24  # of a picture's name, which fit over it


def write_grids(output: str | Path, table: Table, pictures: Sequence[Picture], caption: str = "") -> list[Path]:
    """Writes ``methods_KIND.png`` and ``refined_KIND.png`` of the kept pictures into a folder of results.

    The first has whole pictures, every method in a column, as the paper's Figure 4 has; above each is its error, the L1 in the
    holes. The second has each refined method beside the one it is compared with, and enlarges the part that holds the holes, as
    Figure 5 does. It shows three pictures: those of which the first refined method gains the most, the median and the least. A
    picture is shown where it was kept of every method.

    Args:
        output: the folder, as in ``evaluate``.
        table: what was found.
        pictures: those that ``find_pictures`` has found.
        caption: a line under each figure, after the pictures' names.

    Returns:
        The paths.
    """
    paths = []
    for kind in table.kinds:
        folders = {"input": (TRUTH.name, ""), **{name: (name, kind) for name in table.methods}, TRUTH.name: (TRUTH.name, "")}
        files = [{title: picture_path(output, *of, picture) for title, of in folders.items()} for picture in pictures]
        there = [i for i, of_picture in enumerate(files) if all(path.is_file() for path in of_picture.values())]
        if not there:
            continue
        shown = {title: torch.cat([load_photo(files[i][title]) for i in there]) for title in folders}
        holes = torch.cat([pictures[i].hole(kind, table.conditions.size, table.conditions.seed) for i in there])
        names = [_plain(pictures[i].name) for i in there]
        told = f"{kind} holes, error: L1 in the holes; {caption}"
        figures = {"methods": _whole_pictures(shown, holes, _escaped(f"{', '.join(names)}; {told}"))}
        refined = [(other, method) for method, other in table.compared() if method.startswith("refined:")]
        if refined:
            compared = dict.fromkeys(name for pair in refined for name in pair)
            columns = {_one_line(name): shown[name] for name in ("input", *compared, TRUTH.name)}
            errors = [_errors(shown[name], shown[TRUTH.name], holes) for name in refined[0]]
            rows = _three_rows([a - b for a, b in zip(*errors, strict=True)], names)
            said = _escaped(f"{len(rows)} of {len(names)} pictures, {told}")
            figures["refined"] = _around_holes(columns, holes, rows, said)
        for name, figure in figures.items():
            paths.append(Path(output) / f"{name}_{kind}.png")
            try:
                with whole_file(paths[-1]) as part:
                    figure.savefig(part, format="png", dpi=140)
            finally:
                plt.close(figure)
    return paths


def _errors(images, truth, mask):
    """The L1 in the hole of each of the pictures."""
    above, below = l1(images, truth, mask).unbind(-1)
    return (above / below).tolist()


def _whole_pictures(pictures: dict[str, torch.Tensor], mask: torch.Tensor, caption: str) -> Figure:
    """Draws a row for each picture, every method in a column."""
    with house_style():
        figure = plt.figure(figsize=(1.9 * len(pictures), 2.2 * len(mask) + 0.7), layout="constrained")
        axes = figure.subplots(len(mask), len(pictures), squeeze=False)
        for column, (title, images) in enumerate(pictures.items()):
            errors, is_filled = _errors(images, pictures[TRUTH.name], mask), title not in ("input", TRUTH.name)
            for row, ax in enumerate(axes[:, column]):
                one, said = slice(row, row + 1), [] if row else [_broken(title)]
                if is_filled:
                    said.append(f"{errors[row]:.3f}")
                show_picture(images[one], None if column else mask[one], "\n".join(said), ax)
        write_caption(figure, caption)
    return figure


def _three_rows(gains: list[float], names: list[str]) -> dict[int, str]:
    """Which pictures have the largest gain, the median and the smallest, and what to call each of them."""
    order = sorted(range(len(gains)), key=gains.__getitem__, reverse=True)
    rows: dict[int, str] = {}
    for place, said in ((0, "largest gain"), (len(order) // 2, "median gain"), (-1, "smallest gain")):
        rows.setdefault(order[place], f"{_escaped(names[order[place]][-LETTERS:])}\n{said}")
    return rows


def _around_holes(pictures: dict[str, torch.Tensor], mask: torch.Tensor, rows: dict[int, str], caption: str) -> Figure:
    """Draws some of the pictures, each in a row, enlarged around its hole."""
    with house_style():
        figure = plt.figure(figsize=(2.6 * len(pictures), 2.9 * len(rows) + 0.4), layout="constrained")
        axes = figure.subplots(len(rows), len(pictures), squeeze=False)
        for column, (title, images) in enumerate(pictures.items()):
            errors = _errors(images, pictures[TRUTH.name], mask)
            for row, (i, called) in enumerate(rows.items()):
                cut = ([i], slice(None), *_around(mask[[i]]))
                named = called if column == 0 else title if title == TRUTH.name else f"{title}\nerror {errors[i]:.3f}"
                show_picture(images[cut], None if column else mask[cut], named, axes[row, column])
        write_caption(figure, caption)
    return figure


def _around(mask):
    """A square that holds the picture's holes, as far as a square can. Its side is six tenths of the short side or more."""
    spans, sides = bounding_box(mask), mask.shape[-2:]
    side = min(max(int(0.6 * min(sides)), *(span.stop - span.start for span in spans)), min(sides))
    starts = (
        min(max((span.start + span.stop - side) // 2, 0), length - side) for span, length in zip(spans, sides, strict=True)
    )
    return [slice(start, start + side) for start in starts]


def _plain(name):
    """A name in letters that every font has."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)


def _escaped(text):
    """A dollar in it begins no formula."""
    return text.replace("$", r"\$")


def _one_line(title):
    return _escaped(title).replace(":", " ")


def _broken(title):
    """A method's words over lines, to fit over a picture."""
    return _escaped(title).replace(":", "\n", 1).replace(":", ",\n")
