"""The package's one style, and the line under a figure that says what it was made with."""

from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from refine_lib.device import describe

STYLE = str(Path(__file__).with_name("refine.mplstyle"))
RC = matplotlib.rc_params_from_file(STYLE, use_default_template=False)
HOLE_COLOUR = np.array([235, 64, 120], dtype=np.uint8)  # found in few photos
ZOOM_COLOUR = "#ffd400"


@contextmanager
def house_style():
    """The package's style, for the figures made inside.

    A notebook's first figure turns interactive drawing on, a setting that leaving the style would undo: no later figure
    would be shown.
    """
    with plt.style.context(STYLE):
        yield
        interactive = plt.isinteractive()
    matplotlib.interactive(interactive)


def dress(ax):
    """The package's style for the axes of a ``Figure`` that pyplot does not know: no global setting is touched.

    So a thread may draw while another one does: see ``refine_lib.widgets.draw``.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color=RC["grid.color"], linewidth=RC["grid.linewidth"])
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=RC["font.size"] - 1)


def made_with(model, **settings):
    """A line for a figure's caption: settings, device and versions."""
    weights = next(model.parameters())
    return ", ".join([*(f"{name} {value}" for name, value in settings.items()), describe(weights.device)])


def write_caption(figure, caption):
    if caption:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=7.5, color="#666666")
