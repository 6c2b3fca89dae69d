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
from refine_lib.metrics import hole_l1
from refine_lib.photos.pixels import load_photo
from refine_lib.plots import compare_rows, show_picture
from refine_lib.plots.style import house_style, write_caption
from refine_lib.whole import whole_file


def write_grids(output: str | Path, table: Table, pictures: Sequence[Picture], caption: str = "") -> list[Path]:
    """Writes ``methods_KIND.png`` and ``refined_KIND.png`` of the kept pictures into a folder of results.

    The first has whole pictures, every method in a column, as the paper's Figure 4 has; above each is its error in the hole
    (L1). The second has each refined method
    beside the one it is compared with, and enlarges what lies around the holes, as Figure 5 does. A picture is shown where it
    was kept of every method.

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
        said = f"{', '.join(_plain(pictures[i].name) for i in there)}; {caption}".replace("$", r"\$")
        figures = {"methods": _whole_pictures(shown, holes, said)}
        refined = [(other, method) for method, other in table.compared() if method.startswith("refined:")]
        if refined:
            compared = dict.fromkeys(name for pair in refined for name in pair)
            columns = {_broken(name): shown[name] for name in ("input", *compared, TRUTH.name)}
            figures["refined"] = compare_rows(columns, holes, caption=said)
        for name, figure in figures.items():
            paths.append(Path(output) / f"{name}_{kind}.png")
            try:
                with whole_file(paths[-1]) as part:
                    figure.savefig(part, format="png", dpi=140)
            finally:
                plt.close(figure)
    return paths


def _whole_pictures(pictures: dict[str, torch.Tensor], mask: torch.Tensor, caption: str) -> Figure:
    """Draws a row for each picture, every method in a column."""
    with house_style():
        figure = plt.figure(figsize=(1.9 * len(pictures), 2.2 * len(mask) + 0.7), layout="constrained")
        axes = figure.subplots(len(mask), len(pictures), squeeze=False)
        for column, (title, images) in enumerate(pictures.items()):
            for row, ax in enumerate(axes[:, column]):
                one = slice(row, row + 1)
                error = f"{hole_l1(images[one], pictures[TRUTH.name][one], mask[one]):.3f}"
                said = ["" if row else _broken(title), "" if title in ("input", TRUTH.name) else error]
                show_picture(images[one], None if column else mask[one], "\n".join(filter(None, said)), ax)
        write_caption(figure, caption)
    return figure


def _plain(name):
    """A name in letters that every font has."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)


def _broken(title):
    """A method's words over lines, to fit over a picture. A dollar in them begins no formula."""
    return title.replace("$", r"\$").replace(":", "\n", 1).replace(":", ",\n")
