"""Pictures for a slide: photos side by side with a zoom, and the loss of every iteration. Nothing here computes or shows.

Each function takes ``ax=`` (or makes a figure), draws in the package's one style, and returns what it drew on.
"""

from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from refine_lib.device import describe
from refine_lib.photos import to_pixels

STYLE = str(Path(__file__).with_name("refine.mplstyle"))
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


def show_picture(image, mask=None, title="", ax=None):
    """Draws the first picture of a batch, with its hole in a colour where a mask is given.

    Shape: image (B, 3, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.

    Returns:
        The axes.
    """
    with house_style():
        ax = plt.subplots()[1] if ax is None else ax
        pixels = to_pixels(image)
        if mask is not None:
            pixels = np.where(to_pixels(mask)[..., None] > 0, HOLE_COLOUR, pixels)
        ax.imshow(pixels)
        ax.set_title(title)
        ax.set_axis_off()
    return ax


def show_pyramid(pyramid):
    """Draws the levels of a pyramid in one row, each as large as it is, with its hole.

    Returns:
        The figure.
    """
    with house_style():
        height, largest = 3.4, pyramid[-1].size
        inch = largest[0] / height  # in pixels
        widths = [max(level.size[1] / inch, 0.8) for level in pyramid]  # room for the title of the smallest
        figure, axes = plt.subplots(
            1, len(pyramid), figsize=(sum(widths) + 0.2 * len(widths), height + 0.3), width_ratios=widths, squeeze=False
        )
        for level, ax, width in zip(pyramid, axes[0], widths, strict=True):
            show_picture(level.image, level.mask, ax=ax)
            ax.set_xlim(-0.5, width * inch - 0.5)  # one scale for all: a picture's size on the page is its size in pixels
            ax.set_ylim(largest[0] - 0.5, -0.5)
            ax.images[0].set_extent((-0.5, level.size[1] - 0.5, largest[0] - 0.5, largest[0] - level.size[0] - 0.5))
            ax.text(0, largest[0] - level.size[0] - inch * 0.06, f"{level.size[0]} x {level.size[1]}")
    return figure


def compare(pictures, mask=None, zoom=None, caption=""):
    """Draws pictures side by side, and under each what a box of it shows, enlarged.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; all of one size, the first of each batch is drawn.
        mask: (B, 1, H, W), 1 = hole. The hole is coloured in the first picture.
        zoom: (top, left, height, width) of the box in pixels; None takes a square around the hole's middle.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    first = next(iter(pictures.values()))
    height, width = first.shape[-2:]
    top, left, tall, wide = zoom if zoom is not None else zoom_on_hole(mask)
    with house_style():
        inches = 2.6
        figure, axes = plt.subplots(
            2,
            len(pictures),
            figsize=(inches * len(pictures), inches * (height / width + tall / wide) + 0.5),
            height_ratios=(height / width, tall / wide),
            layout="constrained",
            squeeze=False,
        )
        for i, (title, image) in enumerate(pictures.items()):
            hole = mask if i == 0 else None
            show_picture(image, hole, title, axes[0, i])
            box = Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=1.5)
            axes[0, i].add_patch(box)
            cut = (..., slice(top, top + tall), slice(left, left + wide))
            show_picture(image[cut], None if hole is None else hole[cut], "", axes[1, i])
            axes[1, i].add_patch(Rectangle((-0.5, -0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=3, clip_on=False))
        if caption:
            figure.supxlabel(caption, x=0.01, ha="left", fontsize=7.5, color="#666666")
    return figure


def zoom_on_hole(mask, share=0.4):
    """(top, left, height, width) of a square around the middle of the hole, ``share`` of the short side."""
    height, width = mask.shape[-2:]
    side = int(share * min(height, width))
    ys, xs = np.nonzero(to_pixels(mask))
    middle_y, middle_x = (ys.mean(), xs.mean()) if len(ys) else (height / 2, width / 2)
    top = int(np.clip(middle_y - side / 2, 0, height - side))
    left = int(np.clip(middle_x - side / 2, 0, width - side))
    return top, left, side, side


def plot_losses(result, ax=None):
    """Draws the loss of every iteration, a line for each refined level.

    Args:
        result: from ``multiscale_inpaint``.

    Returns:
        The axes.
    """
    with house_style():
        ax = plt.subplots(figsize=(6, 3.2), layout="constrained")[1] if ax is None else ax
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


def made_with(model, **settings):
    """A line for a figure's caption: settings, device and versions."""
    weights = next(model.parameters())
    return ", ".join([*(f"{name} {value}" for name, value in settings.items()), describe(weights.device)])
