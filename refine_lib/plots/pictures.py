"""Pictures side by side, with holes, zooms and squares; pyramids; featuremaps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from refine_lib.loss import bounding_box
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.style import HOLE_COLOR, REACH_COLOR, ZOOM_COLOR, drawn_on
from refine_lib.pyramid import Pyramid

Pictures = Mapping[str, Tensor]  # by their titles
Masks = Sequence[Tensor | None]
Squares = Sequence[tuple[int, int, float]]  # row, column, side in pixels
Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def show_picture(image: Tensor, mask: Tensor | None = None, title: str = "", ax: Axes | None = None) -> Axes:
    """Draws the first picture of a batch. Where a mask is given, its hole is colored.

    Shape: image (B, 3, H, W) in [0, 1], mask (B, 1, H, W), 1 = hole.

    Returns:
        The axes.
    """
    with drawn_on(ax, figsize=None, layout=None) as axes:
        axes.imshow(to_pixels(image) if mask is None else with_hole(to_pixels(image), mask))
        axes.set_title(title)
        axes.set_axis_off()
    return axes


def with_hole(pixels: np.ndarray, mask: Tensor) -> np.ndarray:
    """Returns pixels (H, W, 3) of uint8 with the hole of a mask (1, 1, H, W), 1 = hole, in ``HOLE_COLOR``."""
    shown, part = pixels.copy(), bounding_box(mask)  # of a large photo it is little
    shown[part][_hole_of(mask[(..., *part)])] = HOLE_COLOR
    return shown


def _hole_of(mask):
    return (mask[0, 0] > 0).numpy(force=True)


def show_pyramid(pyramid: Pyramid, caption: str = "") -> Figure:
    """Draws the levels of a pyramid in one row, each as large as it is, with its hole.

    Args:
        pyramid: as ``build_pyramid`` returns it.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    inches, (tallest, _) = 3.4, pyramid[-1].size
    px_per_inch = tallest / inches
    widths = [max(level.size[1] / px_per_inch, 0.8) for level in pyramid]  # room for the title of the smallest
    figsize = (sum(widths) + 0.2 * len(widths), inches + 0.3)
    with drawn_on(None, caption, (1, len(pyramid)), figsize, layout=None, width_ratios=widths, squeeze=False) as axes:
        for level, ax, width in zip(pyramid, axes[0], widths, strict=True):
            show_picture(level.image, level.mask, ax=ax)
            top = tallest - level.size[0]
            ax.set_xlim(
                -0.5, width * px_per_inch - 0.5
            )  # one scale for all: a picture's size on the page is its size in pixels
            ax.set_ylim(tallest - 0.5, -0.5)
            ax.images[0].set_extent((-0.5, level.size[1] - 0.5, tallest - 0.5, top - 0.5))
            ax.text(0, top - px_per_inch * 0.06, f"{level.size[0]} x {level.size[1]}")
    return axes[0, 0].figure


def compare(
    pictures: Pictures, mask: Tensor | None = None, zoom: Box | None = None, hole: bool = True, caption: str = ""
) -> Figure:
    """Draws pictures side by side, and under each what a box of it shows, enlarged.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; all of one size, the first of each batch is drawn.
        mask: (B, 1, H, W), 1 = hole.
        zoom: (top, left, height, width) of the box in pixels; None takes a square around the middle of the
            mask's hole.
        hole: whether the hole is colored in the first picture.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    height, width = next(iter(pictures.values())).shape[-2:]
    box = zoom_on_hole(mask) if zoom is None else zoom  # pyright: ignore[reportArgumentType]
    inches, ratios = 2.6, (height / width, box[2] / box[3])
    figsize = (inches * len(pictures), inches * sum(ratios) + 0.5)
    with drawn_on(None, caption, (2, len(pictures)), figsize, height_ratios=ratios, squeeze=False) as axes:
        for column, (title, image) in enumerate(pictures.items()):
            _whole_and_zoomed(axes[:, column], image, mask if hole and column == 0 else None, box, title)
    return axes[0, 0].figure


def compare_rows(
    pictures: Pictures, mask: Tensor, caption: str = "", outlines: Masks | None = None, whole: bool = True
) -> Figure:
    """Draws several scenes, a row to each: every picture of it, and beside each what lies around the hole, enlarged.

    Args:
        pictures: from a title to images (B, 3, H, W) in [0, 1], a row for each of the batch.
        mask: (B, 1, H, W), 1 = hole. The hole is colored in the first picture of a row.
        caption: a line under the figure: what it was made with.
        outlines: for each picture (B, 1, H, W), 1 = hole, or None: a line is drawn around holes where they are enlarged.
        whole: whether the whole pictures are drawn. Without them there is more room for what lies around the hole.

    Returns:
        The figure.
    """
    rows, per, inches, (height, width) = len(mask), 1 + whole, 1.5 if whole else 2.2, mask.shape[-2:]
    figsize = (per * inches * len(pictures) + 0.2, inches * (height / width if whole else 1) * rows + 0.5)
    with drawn_on(None, caption, (rows, per * len(pictures)), figsize, squeeze=False) as axes:
        axes[0, 0].figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for row in range(rows):
            one = slice(row, row + 1)
            top, left, tall, wide = box = zoom_on_hole(mask[one])
            cut = (one, slice(None), slice(top, top + tall), slice(left, left + wide))
            for column, (title, image) in enumerate(pictures.items()):
                title, pair = title if row == 0 else "", axes[row, per * column : per * (column + 1)]
                if whole:
                    _whole_and_zoomed(pair, image[one], mask[one] if column == 0 else None, box, title, linewidth=1)
                else:
                    show_picture(image[cut], mask[cut] if column == 0 else None, title, pair[0])
                if outlines is not None:
                    _outline(pair[-1], outlines[column], cut, linewidth=1)
    return axes[0, 0].figure


def _outline(ax, hole, cut=(), linewidth=1.5):
    """Draws a line around a hole, or around what a cut leaves of it; nothing where there is no hole."""
    if hole is not None:
        ax.contour(to_pixels(hole[cut]), levels=[127], colors=[HOLE_COLOR / 255], linewidths=linewidth)


def _whole_and_zoomed(axes, image, hole, box, title, linewidth=1.5):
    """Draws a picture on the first axes and what a box of it shows on the second, both with the frame of the box."""
    top, left, tall, wide = box
    cut = (..., slice(top, top + tall), slice(left, left + wide))
    show_picture(image, hole, title, axes[0])
    show_picture(image[cut], None if hole is None else hole[cut], "", axes[1])
    frame: dict[str, Any] = dict(width=wide, height=tall, fill=False, color=ZOOM_COLOR)
    axes[0].add_patch(Rectangle((left - 0.5, top - 0.5), linewidth=linewidth, **frame))
    axes[1].add_patch(Rectangle((-0.5, -0.5), linewidth=linewidth + 1.5, clip_on=False, **frame))


def show_row(
    pictures: Pictures,
    masks: Masks | None = None,
    outlines: Masks | None = None,
    squares: Squares | None = None,
    caption: str = "",
    square_color: str = ZOOM_COLOR,
) -> Figure:
    """Draws pictures of any sizes side by side, equally large on the page.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; the first of each batch is drawn.
        masks: for each picture (B, 1, H, W), 1 = hole, or None: holes are colored.
        outlines: for each picture (B, 1, H, W), 1 = hole, or None: a line is drawn around holes.
        squares: for each picture (row, column, side) in pixels: a square to draw around its pixel.
        caption: a line under the figure: what it was made with.
        square_color: of the squares; the default is for pictures.

    Returns:
        The figure.
    """
    inches = 2.8
    with drawn_on(None, caption, (1, len(pictures)), (inches * len(pictures), inches + 0.45), squeeze=False) as axes:
        for i, (title, image) in enumerate(pictures.items()):
            ax = show_picture(image, None if masks is None else masks[i], title, axes[0, i])
            _outline(ax, None if outlines is None else outlines[i])
            if squares is not None:
                row, column, side = squares[i]
                corner = (column - side / 2, row - side / 2)
                ax.add_patch(Rectangle(corner, side, side, fill=False, color=square_color, linewidth=2.5))
                ax.plot(column, row, "+", color=square_color, markersize=10, markeredgewidth=2)
                ax.set_xlim(-0.5, image.shape[-1] - 0.5)  # the square may reach beyond the picture
                ax.set_ylim(image.shape[-2] - 0.5, -0.5)
    return axes[0, 0].figure


def show_influence(influence: Mapping[str, Tensor], squares: Squares | None = None, caption: str = "") -> Figure:
    """Draws maps of influence side by side. Light gray is none, and black is the most in a map.

    The square root is drawn, or little would be seen of what is far away.

    Args:
        influence: from a title to (H, W), 0 or more, as ``seen_by`` and ``reached_by`` give it.
        squares: for each map (row, column, side) in pixels: a square to draw around its pixel.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    shares = {title: (one / one.max().clamp(min=1e-30)).sqrt() for title, one in influence.items()}
    pictures = {title: (0.92 * (1 - share)).expand(1, 3, -1, -1) for title, share in shares.items()}
    return show_row(pictures, squares=squares, caption=caption, square_color=REACH_COLOR)


def show_channels(z: Sequence[Tensor], n_channels: int = 6, names: Sequence[str] = (), caption: str = "") -> Figure:
    """Draws channels of a featuremap, evenly picked: a row for each of its tensors.

    Args:
        z: a tuple of tensors (1, C, h, w), as ``model.front`` gives it.
        n_channels: of each tensor.
        names: for each tensor.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    with drawn_on(None, caption, (len(z), n_channels), (1.9 * n_channels, 2.1 * len(z) + 0.2), squeeze=False) as axes:
        for row, tensor in enumerate(z):
            picked = np.linspace(0, tensor.shape[1] - 1, n_channels).astype(int)
            for ax, channel in zip(axes[row], picked, strict=True):
                ax.imshow(tensor[0, channel].detach().cpu().numpy(), cmap="gray")
                ax.set_title(f"{names[row] if names else 'channel'} {channel}")
                ax.set_axis_off()
    return axes[0, 0].figure


def zoom_on_hole(mask: Tensor, share: float = 0.4, side: int | None = None) -> Box:
    """Returns (top, left, height, width) of a square around the middle of the hole.

    Args:
        mask: (B, 1, H, W), 1 = hole; the first of the batch is looked at.
        share: side of the square as a share of the short side.
        side: in pixels, in place of the share; at most the short side.
    """
    height, width = mask.shape[-2:]
    side = min(int(share * min(height, width)) if side is None else side, height, width)
    hole = _hole_of(mask)
    middle_y, middle_x = (
        np.average(np.arange(hole.shape[i]), weights=hole.sum(1 - i)) if hole.any() else hole.shape[i] / 2 for i in (0, 1)
    )
    top = int(np.clip(middle_y - side / 2, 0, height - side))
    left = int(np.clip(middle_x - side / 2, 0, width - side))
    return top, left, side, side
