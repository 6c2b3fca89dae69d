"""Curves for a slide: losses, errors, spectra, costs. Nothing here computes a result or shows a figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from refine_lib.plots.style import drawn_on
from refine_lib.result import Result

Numbers = Sequence[float]
Pair = tuple[Axes, Axes]
UPDATES = "updates of the featuremap z"
SIDE_BY_SIDE = dict(shape=(1, 2), figsize=(9, 3.2))


def plot_losses(result: Result, ax: Axes | None = None, caption: str = "") -> Axes:
    """Draws the loss of every iteration, a line for each refined level.

    Args:
        result: from ``multiscale_inpaint``.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with drawn_on(ax, caption) as axes:
        for level, losses in enumerate(result.losses, start=1):
            if losses:
                height, width = result.levels[level].size if level < len(result.levels) else ("?", "?")
                axes.plot(losses, marker="o", label=f"level {level + 1} ({height} x {width} px)")
        axes.set(xlabel=UPDATES, ylabel="loss: mean absolute difference", title="Loss in the eroded hole, at every iteration")
        axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend()
    return axes


def plot_loss_and_error(runs: Mapping[str, tuple[Numbers, Numbers]], axes: Pair | None = None, caption: str = "") -> Pair:
    """Draws what a run sees beside what it does not: its loss, and the error in the hole of a scene whose truth is known.

    Args:
        runs: from a run's name to its losses and errors, a number of each for every iteration.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        for name, numbers in runs.items():
            for ax, values in zip((left, right), numbers, strict=True):
                ax.plot(values, label=name)
        left.set(title="What the run sees: the loss", xlabel=UPDATES, ylabel="mean absolute difference")
        right.set(title="What it does not: the error in the hole", xlabel=UPDATES)
        for ax in (left, right):
            ax.set_ylim(bottom=0)  # a part of an axis makes a small difference look large
        right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return left, right


def plot_descents(runs: Mapping[str, tuple[Numbers, Numbers]], axes: Pair | None = None, caption: str = "") -> Pair:
    """Draws the losses of several optimizers by iteration and by second.

    Args:
        runs: from an optimizer's name to its losses and the seconds since its start, a number of each for every iteration.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes. By second the slowest is drawn as long as the one before it takes.
    """
    with drawn_on(axes, caption, sharey=True, **SIDE_BY_SIDE) as (left, right):
        for name, (losses, seconds) in runs.items():
            left.plot(losses, marker="o", label=name)
            right.plot(seconds, losses, marker="o", label=name)
        left.set(xlabel="iterations", ylabel="loss: mean absolute difference", title="By iteration")
        left.set_ylim(bottom=0)
        ends = sorted(seconds[-1] for _, seconds in runs.values())
        right.set(xlabel="seconds", title="By second", xlim=(0, 1.1 * ends[-2:][0]))  # the slowest may take far longer
        right.legend(loc="center right", bbox_to_anchor=(1, 0.65))
    return left, right


def plot_places(reach: Numbers, elements: Numbers, marked: int, axes: Pair | None = None, caption: str = "") -> Pair:
    """Draws for every place to cut a network how far an element of z reaches, and how many elements z has.

    Args:
        reach: side of the square (``side_of``) in pixels, a number for each place, in the order of the layers.
        elements: of z, a number for each place.
        marked: the place to mark with a line.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes.
    """
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        for ax, values, title in zip(
            (left, right), (reach, elements), ("Side of the square of an element, in pixels", "Elements of z"), strict=True
        ):
            ax.plot(values, marker="o")
            ax.axvline(marked, color="#888888", linewidth=1, linestyle="--")
            ax.set(title=title, xlabel="layer that the rear begins with")
            ax.set_ylim(bottom=0)
    return left, right


def plot_spectra(pictures: Mapping[str, Tensor], ax: Axes | None = None, caption: str = "", unit: str = "pixel") -> Axes:
    """Draws how strong each horizontal frequency of a picture or of a featuremap's tensor is, a line for each.

    Args:
        pictures: from a name to (B, C, H, W). An amplitude is the root mean square over the rows and channels of the first
            of a batch.
        caption: a line under the figure: what it was made with.
        unit: what frequencies are counted by, for the axis.

    Returns:
        The axes. A wave between 0 and 1 has the amplitude 0.5 at its frequency.
    """
    with drawn_on(ax, caption, figsize=(7.5, 3.2)) as axes:
        for name, picture in pictures.items():
            rows = picture[0].detach().cpu().double().numpy()
            window = np.hanning(rows.shape[-1])  # or the jump from the right border to the left would be a frequency
            rows = (rows - rows.mean(-1, keepdims=True)) * window
            amplitude = 2 * np.sqrt((np.abs(np.fft.rfft(rows)) ** 2).mean((0, 1))) / window.sum()
            axes.plot(np.fft.rfftfreq(rows.shape[-1]), amplitude, label=name)
        axes.set(xlabel=f"cycles per {unit}", ylabel="amplitude", xlim=(0, 0.5))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def plot_cost(result: Result, axes: Pair | None = None, caption: str = "") -> Pair:
    """Draws what time a run took: seconds by pass, a line for each level, and the seconds of a pass by the level's pixels.

    Args:
        result: from ``multiscale_inpaint``.
        axes: two of them.
        caption: a line under the figure: what it was made with.

    Returns:
        The two axes. The dashed line of the second is time in proportion to the pixels, through the largest level.
    """
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        pixels, of_a_pass = [], []
        for level, picture in enumerate(result.levels):
            seconds = [step.seconds for step in result.steps if step.level == level]
            name = f"level {level + 1} ({picture.size[0]} x {picture.size[1]} px)"
            left.plot(np.cumsum([0.0, *seconds]), marker="o", label=name)
            pixels.append(picture.size[0] * picture.size[1])
            of_a_pass.append(float(np.median(seconds)))
            right.loglog(pixels[-1], of_a_pass[-1], marker="o", label=name)
        in_proportion = [of_a_pass[-1] * n / pixels[-1] for n in pixels]
        right.loglog(pixels, in_proportion, "--", color="0.5", linewidth=1, zorder=0, label="in proportion")
        left.set(xlabel="passes at the level, forward and back", ylabel="seconds", title="All passes so far")
        left.xaxis.get_major_locator().set_params(integer=True)
        right.set(xlabel="pixels of the level", ylabel="seconds", title="One pass")
        right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return left, right


def plot_set_distances(distances: Mapping[str, Mapping[int, Numbers]], axes: Pair | None = None, caption: str = "") -> Pair:
    """Draws what a distance between two sets of pictures says about sets that differ by chance alone, by their size.

    Args:
        distances: from a distance's name to a dictionary, from the number of pictures in each set to its values over several
            pairs of sets. Its truth is 0.
        axes: two of them, for two distances.
        caption: a line under the figure: what it was made with.

    Returns:
        The axes.
    """
    with drawn_on(axes, caption, **SIDE_BY_SIDE) as (left, right):
        for ax, (name, by_number) in zip((left, right), distances.items(), strict=True):
            numbers = sorted(by_number)
            for n in numbers:
                label = "a pair of sets" if n == numbers[0] else ""
                ax.plot([n] * len(by_number[n]), by_number[n], "o", color="0.7", markersize=4, label=label)
            ax.plot(numbers, [np.mean(by_number[n]) for n in numbers], marker="o", label="mean")
            if min(map(min, by_number.values())) > 0:  # or what is near to 0 would be 0
                ax.set_yscale("log")
                name += " (the truth is 0)"
            else:
                ax.axhline(0, color="0.2", linewidth=1, linestyle="--", label="the truth")
            ax.set(title=name, xlabel="pictures in each set", ylabel="distance", xscale="log")
            ax.set_xticks(numbers, [str(n) for n in numbers])
            ax.minorticks_off()
            ax.legend()
    return left, right
