"""Pictures of an evaluation: every method side by side, and the plain pass beside the refined one around the hole."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from refine_lib.evaluate.rows import TRUTH
from refine_lib.evaluate.run import picture_path
from refine_lib.photos.pixels import load_photo
from refine_lib.plots import compare_rows, show_picture
from refine_lib.plots.style import house_style, write_caption


def kept(output, pictures, kind, methods, settings):
    """The pictures of an evaluation that were kept, those that every method has filled.

    Returns:
        A dictionary from ``"input"``, each method and ``"truth"`` to (N, 3, H, W), and the holes (N, 1, H, W); or None.
    """
    ways = [(TRUTH, ""), *((method, kind) for method in methods)]
    rows, holes = [], []
    for picture in pictures:
        paths = [picture_path(output, method, of, picture) for method, of in ways]
        if all(path.is_file() for path in paths):
            rows.append([load_photo(path) for path in paths])
            holes.append(picture.hole(kind, settings.size, settings.seed))
    if not rows:
        return None
    truth, *filled = (torch.cat(column) for column in zip(*rows, strict=True))
    return {"input": truth, **dict(zip(methods, filled, strict=True)), TRUTH: truth}, torch.cat(holes)


def method_grid(pictures, mask, caption=""):
    """Draws whole pictures, a row to each, every method in a column: the form of the paper's Figure 4.

    Args:
        pictures, mask: as ``kept`` gives them.
        caption: a line under the figure.

    Returns:
        The figure.
    """
    with house_style():
        figure = plt.figure(figsize=(1.9 * len(pictures), 1.95 * len(mask) + 0.5), layout="constrained")
        axes = figure.subplots(len(mask), len(pictures), squeeze=False)
        for row, one in enumerate(axes):
            for column, (ax, (title, images)) in enumerate(zip(one, pictures.items(), strict=True)):
                hole = mask[row : row + 1] if column == 0 else None
                show_picture(images[row : row + 1], hole, _broken(title) if row == 0 else "", ax)
        write_caption(figure, caption)
    return figure


def refined_grid(pictures, mask, caption=""):
    """Draws what lies around the holes, plain beside refined, enlarged: the form of the paper's Figure 5.

    Args:
        pictures, mask: as ``kept`` gives them; of the methods those that end in plain or refined are shown.
        caption: a line under the figure.

    Returns:
        The figure, or None where there is no refined method with its plain one.
    """
    pairs = {name: f"plain:{name.split(':')[1]}" for name in pictures if name.startswith("refined:")}
    names = [n for refined, plain in pairs.items() if plain in pictures for n in (plain, refined)]
    if not names:
        return None
    shown = {_broken(name): pictures[name] for name in ("input", *dict.fromkeys(names), TRUTH)}
    return compare_rows(shown, mask, caption=caption)


def write_grids(output, table, pictures, caption=""):
    """Writes ``methods_KIND.png`` and ``refined_KIND.png`` into a folder of results; returns the paths."""
    paths = []
    for kind in table.kinds:
        found = kept(output, pictures, kind, table.methods, table.settings)
        if found:
            for name, draw in (("methods", method_grid), ("refined", refined_grid)):
                figure = draw(*found, caption=caption)
                if figure is not None:
                    path = Path(output) / f"{name}_{kind}.png"
                    figure.savefig(path, dpi=140)
                    plt.close(figure)
                    paths.append(path)
    return paths


def _broken(title):
    """A method's words over lines, to fit over a picture."""
    return title.replace(":", "\n", 1).replace(":", ",\n")
