"""Curves for a slide: losses, errors, spectra, costs. Nothing here computes a result or shows a figure."""

from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from refine_lib.plots.style import house_style, write_caption


@contextmanager
def _one(ax, caption, figsize=(6, 3.2)):
    """The axes to draw on, in the package's style: the given one, or one of a new figure, with a caption at the end."""
    with house_style():
        ax = plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax
        yield ax
        write_caption(ax.figure, caption)


@contextmanager
def _two(axes, caption, **options):
    """As ``_one``, for two axes side by side."""
    with house_style():
        axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", **options)[1] if axes is None else axes
        yield axes
        write_caption(axes[0].figure, caption)


def plot_losses(result, ax=None, caption=""):
    """Draws the loss of every iteration, a line for each refined level.

    Args:
        result: from ``multiscale_inpaint``.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with _one(ax, caption) as ax:
        for level, losses in enumerate(result.losses, start=1):
            if losses:
                height, width = result.levels[level].size if level < len(result.levels) else ("?", "?")
                ax.plot(losses, marker="o", label=f"level {level + 1} ({height} x {width} px)")
        ax.set_xlabel("updates of the featuremap z")
        ax.set_ylabel("loss: mean absolute difference")
        ax.set_ylim(bottom=0)
        ax.set_title("Loss in the eroded hole, at every iteration")
        if ax.lines:
            ax.legend()
    return ax


def plot_loss_and_error(runs, axes=None, caption=""):
    """Draws what a run sees beside what it does not: its loss, and the error in the hole of a scene whose truth is known.

    Args:
        runs: from a run's name to its losses and errors, a number of each for every iteration.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with _two(axes, caption) as axes:
        for name, numbers in runs.items():
            for ax, values in zip(axes, numbers, strict=True):
                ax.plot(values, label=name)
        for ax, title in zip(axes, ("What the run sees: the loss", "What it does not: the error in the hole"), strict=True):
            ax.set_title(title)
            ax.set_xlabel("updates of the featuremap z")
        axes[0].set_ylabel("mean absolute difference")
        axes[0].set_ylim(bottom=0)
        axes[1].legend()
    return axes


def plot_descents(runs, axes=None, caption=""):
    """Draws the losses of several optimisers by iteration and by second.

    Args:
        runs: from an optimiser's name to its losses and the seconds since its start, a number of each for every iteration.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with _two(axes, caption, sharey=True) as axes:
        for name, (losses, seconds) in runs.items():
            axes[0].plot(losses, marker="o", label=name)
            axes[1].plot(seconds, losses, marker="o", label=name)
        axes[0].set_xlabel("iterations")
        axes[1].set_xlabel("seconds")
        axes[0].set_ylabel("loss: mean absolute difference")
        axes[0].set_ylim(bottom=0)
        axes[0].set_title("By iteration")
        axes[1].set_title("By second")
        axes[1].legend()
    return axes


def plot_training(logs, ax=None, caption=""):
    """Draws how the error in the hole fell while networks were trained: on unseen pictures, with the averaged weights.

    Args:
        logs: from a network's name to the ``.csv`` that its training wrote.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with _one(ax, caption) as ax:
        for name, path in logs.items():
            log = np.genfromtxt(path, delimiter=",", names=True)
            ax.plot(log["pictures"] / 1000, log["hole_l1_unseen"], label=name)
        ax.set_xlabel("pictures seen, in thousands")
        ax.set_ylabel("mean absolute error in the hole")
        ax.set_yscale("log")
        ax.set_yticks(ticks := [0.06, 0.08, 0.1, 0.15, 0.2], [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_title("Training: error on 64 unseen pictures, at the training size")
        ax.legend()
    return ax


def plot_places(reach, elements, marked, axes=None, caption=""):
    """Draws for every place to cut a network how far an element of z reaches, and how many elements z has.

    Args:
        reach: in pixels, a number for each place, in the order of the layers.
        elements: of z, a number for each place.
        marked: the place to mark with a line.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with _two(axes, caption) as axes:
        for ax, values, title in zip(axes, (reach, elements), ("Reach of an element, in pixels", "Elements of z"), strict=True):
            ax.plot(values, marker="o")
            ax.axvline(marked, color="#888888", linewidth=1, linestyle="--")
            ax.set_ylim(bottom=0)
            ax.set_title(title)
            ax.set_xlabel("layer that the rear begins with")
    return axes


def plot_spectra(pictures, ax=None, caption=""):
    """Draws how strong each horizontal frequency of a picture or of a featuremap's tensor is, a line for each.

    Args:
        pictures: from a name to (B, C, H, W); amplitudes are root mean squares over rows and channels of the first of a batch.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes; a wave between 0 and 1 has the amplitude 0.5 at its frequency.
    """
    with _one(ax, caption, figsize=(7.5, 3.2)) as ax:
        for name, picture in pictures.items():
            rows = picture[0].detach().cpu().double().numpy()
            window = np.hanning(rows.shape[-1])  # or the jump from the right border to the left would be a frequency
            rows = (rows - rows.mean(-1, keepdims=True)) * window
            amplitude = 2 * np.sqrt((np.abs(np.fft.rfft(rows)) ** 2).mean((0, 1))) / window.sum()
            ax.plot(np.fft.rfftfreq(rows.shape[-1]), amplitude, label=name)
        ax.set_xlabel("cycles per pixel")
        ax.set_ylabel("amplitude")
        ax.set_xlim(0, 0.5)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_cost(result, axes=None, caption=""):
    """Draws what each level of a run took: seconds, by iteration and in all, and the most memory held until its end.

    Args:
        result: from ``multiscale_inpaint``.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with _two(axes, caption) as axes:
        for level, picture in enumerate(result.levels):
            steps = [step for step in result.steps if step.level == level]
            seconds = np.cumsum([0.0] + [step.seconds for step in steps])
            label = f"level {level + 1} ({picture.size[0]} x {picture.size[1]} px)"
            axes[0].plot(seconds, marker="o", label=label)
            axes[1].bar(label.split(" (")[0], steps[-1].peak_memory / 2**20, width=0.6)
        axes[0].set_xlabel("forward passes at the level")
        axes[0].set_ylabel("seconds")
        axes[0].set_title("Time")
        axes[0].legend()
        axes[1].set_ylabel("MB, the most until the level's end")
        axes[1].set_title("Memory")
    return axes


CONTESTANTS = {  # who is drawn, in this order, and how it is called
    "authors": "authors' code",
    "exact": "network as it is",
    "refine_lib": "refine_lib",
    "polyak": "refine_lib, Polyak, a third of the updates",
}


def _against_size(ax, rows, costs, what, title):
    """A line for each contestant over the picture's side, both scales logarithmic."""
    for who, label in CONTESTANTS.items():
        points = [(row.size, cost[who]) for row, cost in zip(rows, costs, strict=True) if who in cost]
        if points:
            ax.plot(*zip(*points, strict=True), marker="o", label=label)
    sizes = [row.size for row in rows]
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [f"{size}" for size in sizes])
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.set_xlabel("side of the picture in pixels")
    ax.set_ylabel(what)
    ax.set_title(title)


def _legend_above(ax):
    ax.set_ylim(top=10 * ax.get_ylim()[1])
    ax.legend(fontsize="small", loc="upper left")


def plot_speed(rows, axes=None, caption=""):
    """Draws what the workshop's benchmark measured: seconds by size, and where those of ``refine_lib`` go.

    Args:
        rows: from the workshop's ``benchmark.measure``, one a size.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with _two(axes, caption) as axes:
        _against_size(axes[0], rows, [row.seconds for row in rows], "seconds", "A whole run")
        axes[0].plot([row.size for row in rows], [row.floor for row in rows], color="0.5", linestyle=":", label="floor")
        _legend_above(axes[0])
        below = np.zeros(len(rows))
        for part in rows[0].parts:
            share = np.array([100 * row.parts[part] / row.seconds["refine_lib"] for row in rows])
            axes[1].bar([f"{row.size}" for row in rows], share, bottom=below, width=0.6, label=part)
            below += share
        axes[1].set_xlabel("side of the picture in pixels")
        axes[1].set_ylabel("% of the time")
        axes[1].set_title("Where refine_lib's time goes")
        axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    return axes


def plot_memory(rows, ax=None, caption=""):
    """Draws the most memory that a run takes beyond what was held before it, by the picture's size.

    Args:
        rows: from the workshop's ``benchmark.measure``, one a size.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with _one(ax, caption) as ax:
        costs = [{who: cost / 2**20 for who, cost in row.peak_memory.items()} for row in rows]
        _against_size(ax, rows, costs, "MB", "The most memory that a run takes")
        _legend_above(ax)
    return ax


def plot_set_distances(distances, axes=None, caption=""):
    """Draws what a distance between two sets of pictures says about sets that differ by chance alone, by their size.

    Args:
        distances: from a distance's name to a dictionary, from the number of pictures in each set to its values over several
            pairs of sets. Its truth is 0.
        axes: two of them, for two distances.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with _two(axes, caption) as axes:
        for ax, (name, by_number) in zip(axes, distances.items(), strict=True):
            numbers = sorted(by_number)
            for n in numbers:
                ax.plot([n] * len(by_number[n]), by_number[n], "o", color="0.7", markersize=4)
            ax.plot(numbers, [np.mean(by_number[n]) for n in numbers], marker="o", label="mean")
            ax.axhline(0, color="0.2", linewidth=1, linestyle="--", label="the truth")
            ax.set_xscale("log")
            ax.set_xticks(numbers, [str(n) for n in numbers])
            ax.minorticks_off()
            ax.set_xlabel("pictures in each set")
            ax.set_ylabel("distance")
            ax.set_title(name)
            ax.legend()
    return axes
