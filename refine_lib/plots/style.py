"""The package's one style, the axes to draw on, and the line under a figure that says what it was made with."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import refine_lib
from refine_lib.device import describe

STYLE = str(Path(__file__).with_name("refine.mplstyle"))
RC = matplotlib.rc_params_from_file(STYLE, use_default_template=False)
HOLE_COLOR = np.array([235, 64, 120], dtype=np.uint8)  # found in few photos
SEEN_COLOR = np.array([255, 212, 0], dtype=np.uint8)  # of what the loss looks at
ZOOM_COLOR = "#ffd400"
LETTERS = 125  # of a caption, of 1 point, in an inch
REACH_COLOR = "#e06000"  # seen on light gray and on black


@contextmanager
def house_style() -> Iterator[None]:
    """Gives the package's style to the figures that are made inside.

    The first figure of a notebook turns interactive drawing on. Leaving the style would turn it off again, and no later
    figure would be shown. So the setting is kept.
    """
    with plt.style.context(STYLE):
        yield
        interactive = plt.isinteractive()
    matplotlib.interactive(interactive)


@contextmanager
def drawn_on(axes: Any, caption: str = "", shape=(1, 1), figsize=(6, 3.2), **options) -> Iterator[Any]:
    """Gives the axes to draw on, in the package's style, and writes the caption at the end.

    Args:
        axes: one axes or several; None makes a new figure.
        caption: a line under the figure.
        shape: rows and columns of a new figure.
        figsize, options: of a new figure, as in ``plt.subplots``.
    """
    with house_style():
        axes = plt.subplots(*shape, figsize=figsize, **{"layout": "constrained"} | options)[1] if axes is None else axes
        yield axes
        write_caption(np.ravel(axes)[0].figure, caption)


def dress(ax: Axes) -> None:
    """Gives the package's style to axes of a ``Figure`` that pyplot does not know.

    It touches no global setting, so one thread may draw while another one does (``refine_lib.widgets.draw``).
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color=RC["grid.color"], linewidth=RC["grid.linewidth"])
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=RC["font.size"] - 1)


def made_with(model: nn.Module, **settings) -> str:
    """Returns a line for a figure's caption: the network's name, settings, device, versions of torch and of this package."""
    device, name = next(model.parameters()).device, getattr(model, "name", "")
    named = [name] if name and "network" not in settings else []
    version = f"refine_lib {refine_lib.__version__}"
    return ", ".join([*named, *(f"{name} {value}" for name, value in settings.items()), describe(device), version])


def write_caption(figure: Figure, caption: str) -> None:
    """Writes a small gray line under a figure, or as many as it takes, unless it is empty.

    On a page all figures are equally wide, so the letters grow with a wide figure.
    """
    if caption:
        points = max(7.5, 0.6 * figure.get_figwidth())
        lines = textwrap.fill(caption, int(LETTERS / points * figure.get_figwidth()))
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=points, color="#555555")
