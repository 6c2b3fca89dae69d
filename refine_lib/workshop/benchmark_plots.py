"""Curves of what the workshop measures: the cost of a run by its size, and the error while a network is trained.

``python -m refine_lib.workshop.benchmark_plots figures/speed.json figures`` draws speed.png and memory.png again.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from refine_lib.plots.curves import SIDE_BY_SIDE
from refine_lib.plots.style import RC, drawn_on
from refine_lib.workshop.costs import SEED

CONTESTANTS = {  # who is drawn, in this order, and how it is called
    "authors": "authors' code",
    "exact": "network as it is",
    "refine_lib": "refine_lib",
    "mixed": "refine_lib, mixed",
    "polyak": "Polyak, 1/3 of the updates",
}
COLORS = dict(zip(CONTESTANTS, RC["axes.prop_cycle"].by_key()["color"], strict=False))  # each its own in all pictures


def plot_speed(rows: Sequence[Any], growth: Any = None, axes: Any = None, caption: str = "") -> tuple[Axes, Axes]:
    """Draws what ``costs.measure`` found: seconds by size, and where those of ``refine_lib`` go.

    Args:
        rows: from ``costs.measure``, one a size.
        growth: a ``Growth``, of which nothing is drawn here.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    sizes = [row.size for row in rows]
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        _against_size(left, sizes, [row.seconds for row in rows], "seconds", "A whole run")
        floors = [row.floor for row in rows]
        left.plot(sizes, floors, color="0.45", linestyle=":", label="arithmetic of all updates in float32")
        _legend_above(left)
        below = np.zeros(len(rows))
        for part in rows[0].parts:
            share = np.array([100 * row.parts[part] / row.seconds["refine_lib"] for row in rows])
            right.bar([f"{size}" for size in sizes], share, bottom=below, width=0.6, label=part)
            below += share
        right.set(xlabel="side of the picture in pixels", ylabel="% of the time", title="Where refine_lib's time goes")
        right.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    return left, right


def plot_memory(rows: Sequence[Any], growth: Any = None, axes: Any = None, caption: str = "") -> tuple[Axes, Axes]:
    """Draws the most memory that a run takes beyond what was held before it, by the picture's size and by the updates.

    Args:
        rows: from ``costs.measure``, one a size.
        growth: a ``Growth``; without one the second axes stay empty.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        costs = [{who: cost / 2**20 for who, cost in row.peak_memory.items()} for row in rows]
        _against_size(left, [row.size for row in rows], costs, "MB", "Memory grows with the picture ...")
        _legend_above(left)
        for who, label in CONTESTANTS.items() if growth else ():
            points = [(n, cost[who] / 2**20) for n, cost in growth.memory_by_updates if who in cost]
            if points:
                right.plot(*zip(*points, strict=True), marker="o", label=label, color=COLORS[who])
        right.set(xlabel="updates a level", ylabel="MB", title="... and little with the updates", ylim=(0, None))
        if growth:
            right.set_title(f"... and little with the updates ({growth.size} px)")
    return left, right


def plot_training(logs: Mapping[str, str | Path], ax: Axes | None = None, caption: str = "") -> Axes:
    """Draws how the error in the hole fell while networks were trained: on unseen pictures, with the averaged weights.

    Args:
        logs: from a network's name to the ``log.csv`` of its training. A level line shows the error of Telea's classical fill.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with drawn_on(ax, caption) as axes:
        for name, path in logs.items():
            with open(path, encoding="utf-8", newline="") as file:
                log = list(csv.DictReader(file))
            pictures = [int(line["pictures"]) / 1000 for line in log]
            axes.plot(pictures, [float(line["hole L1, unseen"]) for line in log], marker="o", label=name)
        axes.axhline(float(log[-1]["Telea's"]), color="0.5", linestyle="--", label="Telea's fill")
        axes.set(xlabel="pictures seen, in thousands", ylabel="mean absolute error in the hole", xlim=(0, None))
        axes.set_title("Error on 64 unseen pictures of 64 px, at the full learning rate")
        axes.legend()
    return axes


def _against_size(ax: Axes, sizes: Sequence[int], costs: Sequence[Mapping[str, float]], what: str, title: str) -> None:
    """Draws a line for each contestant over the picture's side, both scales logarithmic."""
    for who, label in CONTESTANTS.items():
        points = [(size, cost[who]) for size, cost in zip(sizes, costs, strict=True) if who in cost]
        if points:
            ax.plot(*zip(*points, strict=True), marker="o", label=label, color=COLORS[who])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [f"{size}" for size in sizes])
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set(xlabel="side of the picture in pixels", ylabel=what, title=title)


def _legend_above(ax: Axes) -> None:
    """A line for each contestant above all axes, which none of their curves can meet."""
    ax.figure.legend(*ax.get_legend_handles_labels(), fontsize="small", loc="outside upper left", ncols=3)


def draw(rows: Sequence[Any], growth: Any, folder: Path) -> None:
    """Writes speed.png and memory.png of what was measured into a folder."""
    first = rows[0]
    for name, plot in (("speed", plot_speed), ("memory", plot_memory)):
        axes = plot(
            rows, growth, caption=f"{first.network}, {first.n_iters} updates a level or as said, seed {SEED}, {first.device}"
        )
        np.ravel(np.array(axes))[0].figure.savefig(folder / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what the benchmark measured.")
    parser.add_argument("json", type=Path, help="what the benchmark's --json wrote")
    parser.add_argument("figures", type=Path, help="the folder for speed.png and memory.png")
    args = parser.parse_args()
    measured = json.loads(args.json.read_text())
    growth = measured["growth"] and SimpleNamespace(**measured["growth"])
    draw([SimpleNamespace(**row) for row in measured["rows"]], growth, args.figures)


if __name__ == "__main__":
    main()
