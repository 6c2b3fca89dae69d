"""Pictures for a slide. Nothing here computes a result or shows a figure.

Each function makes a figure, or takes ``ax=`` where it fills one axes, draws in the package's one style, and returns what it
drew on.
"""

from refine_lib.plots.curves import (
    plot_cost,
    plot_descents,
    plot_loss_and_error,
    plot_losses,
    plot_memory,
    plot_places,
    plot_set_distances,
    plot_spectra,
    plot_speed,
    plot_training,
)
from refine_lib.plots.pictures import (
    compare,
    compare_rows,
    show_channels,
    show_picture,
    show_pyramid,
    show_row,
    zoom_on_hole,
)
from refine_lib.plots.style import HOLE_COLOUR, house_style, made_with

__all__ = [
    "HOLE_COLOUR",
    "compare",
    "compare_rows",
    "house_style",
    "made_with",
    "plot_cost",
    "plot_descents",
    "plot_loss_and_error",
    "plot_losses",
    "plot_memory",
    "plot_places",
    "plot_set_distances",
    "plot_spectra",
    "plot_speed",
    "plot_training",
    "show_channels",
    "show_picture",
    "show_pyramid",
    "show_row",
    "zoom_on_hole",
]
