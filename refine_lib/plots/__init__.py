"""Pictures for a slide. Nothing here computes a result or shows a figure.

A function that fills one axes takes ``ax=``, and one that fills two takes ``axes=``. All others make a figure. Each draws in
the package's one style and returns what it drew on.
"""

from refine_lib.plots.curves import (
    plot_cost,
    plot_descents,
    plot_loss_and_error,
    plot_losses,
    plot_places,
    plot_set_distances,
    plot_spectra,
)
from refine_lib.plots.pictures import (
    compare,
    compare_rows,
    show_channels,
    show_influence,
    show_picture,
    show_pyramid,
    show_row,
    show_shares,
    zoom_on_hole,
)
from refine_lib.plots.style import HOLE_COLOR, SEEN_COLOR, house_style, made_with

__all__ = [
    "HOLE_COLOR",
    "SEEN_COLOR",
    "compare",
    "compare_rows",
    "house_style",
    "made_with",
    "plot_cost",
    "plot_descents",
    "plot_loss_and_error",
    "plot_losses",
    "plot_places",
    "plot_set_distances",
    "plot_spectra",
    "show_channels",
    "show_influence",
    "show_picture",
    "show_pyramid",
    "show_row",
    "show_shares",
    "zoom_on_hole",
]
