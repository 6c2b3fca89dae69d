"""Draws the worlds that the networks are trained on and measured on: ``python -m refine_lib.workshop.worlds worlds.png``.

A row of each: the first scenes of a seed, whatever they are.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from refine_lib.device import describe
from refine_lib.plots import house_style, show_picture
from refine_lib.plots.style import write_caption
from refine_lib.workshop.effect import pictures_of

ROWS = {
    "planes": "mini-lama and mini-conv are trained on these: the lessons' kind",
    "patterns": "... and on these: patterns",
    "leaves": "mini-photo is trained on these: leaves",
    "simple": "only measured on: simple",
    "busy": "only measured on: busy",
}


def draw_worlds(n=7, size=256, seed=0):
    """A figure with the first n pictures of each world that a seed gives."""
    with house_style():
        figure, axes = plt.subplots(len(ROWS), n, figsize=(1.5 * n, 1.62 * len(ROWS)), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.09, wspace=0, hspace=0, rect=(0, 0, 1, 0.975))
        for (name, title), row in zip(ROWS.items(), axes, strict=True):
            for picture, ax in zip(pictures_of(name, size, n, seed).split(1), row, strict=True):
                show_picture(picture, ax=ax)
            row[0].text(0, 1.04, title, transform=row[0].transAxes).set_in_layout(False)  # it is wider than its picture
        write_caption(figure, f"the first {n} of each, {size} px, seed {seed}, {describe('cpu')}")
    return figure


def main():
    parser = argparse.ArgumentParser(description="Draw the worlds that the networks are trained and measured on.")
    parser.add_argument("path", type=Path, help="the picture to write")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (default: %(default)s)")
    args = parser.parse_args()
    draw_worlds(seed=args.seed).savefig(args.path, dpi=110)
    print(f"wrote {args.path}")


if __name__ == "__main__":
    main()
