"""Pictures side by side, with holes, zooms and squares; pyramids; featuremaps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from scipy.ndimage import uniform_filter
from torch import Tensor

from refine_lib.loss import bounding_box
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.style import HOLE_COLOR, REACH_COLOR, ZOOM_COLOR, drawn_on
from refine_lib.pyramid import Pyramid

Pictures = Mapping[str, Tensor]  # by their titles
Masks = Sequence[Tensor | None]
Squares = Sequence[tuple[int, int, float]]  # row, column, side in pixels
Box = tuple[int, int, int, int]  # top, left, height, width in pixels
MOST_IN_A_ROW = 6


def show_picture(
    image: Tensor, mask: Tensor | None = None, title: str = "", ax: Axes | None = None, color: np.ndarray = HOLE_COLOR
) -> Axes:
    """Draws the first picture of a batch. Where a mask is given, its hole is colored, with a white line about it.

    Args:
        image: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W), 1 = hole.
        title: above the picture.
        ax: where to draw.
        color: of the hole, three numbers from 0 to 255.

    Returns:
        The axes.
    """
    with drawn_on(ax, figsize=None, layout=None) as axes:
        axes.imshow(to_pixels(image) if mask is None else with_hole(to_pixels(image), mask, color))
        if mask is not None:
            _line(axes, mask, "white", 0.8)  # a hole in a scene of its own color would not be seen
        axes.set_title(title)
        axes.set_axis_off()
    return axes


def with_hole(pixels: np.ndarray, mask: Tensor, color: np.ndarray = HOLE_COLOR) -> np.ndarray:
    """Returns pixels (H, W, 3) of uint8 with the hole of a mask (1, 1, H, W), 1 = hole, in a color."""
    shown, part = pixels.copy(), bounding_box(mask)  # of a large photo it is little
    shown[part][_hole_of(mask[(..., *part)])] = color
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
    pictures: Pictures,
    mask: Tensor | None = None,
    zoom: Box | None = None,
    hole: bool = True,
    caption: str = "",
    per_row: int = MOST_IN_A_ROW,
) -> Figure:
    """Draws pictures side by side, and under each what a box of it shows, enlarged.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; all of one size, the first of each batch is drawn.
        mask: (B, 1, H, W), 1 = hole.
        zoom: (top, left, height, width) of the box in pixels; None takes a square around the middle of the
            mask's hole.
        hole: whether the hole is colored in the first picture.
        caption: a line under the figure: what it was made with.
        per_row: how many pictures a row has at most.

    Returns:
        The figure.
    """
    height, width = next(iter(pictures.values())).shape[-2:]
    box = zoom_on_hole(mask) if zoom is None else zoom  # pyright: ignore[reportArgumentType]
    rows, columns = _rows_and_columns(len(pictures), per_row)
    inches, ratios = 2.6, (height / width, box[2] / box[3])
    shape, figsize = (2 * rows, columns), (inches * columns, inches * sum(ratios) * rows + 0.5)
    with drawn_on(None, caption, shape, figsize, height_ratios=ratios * rows, squeeze=False) as axes:
        pairs = axes.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)
        for i, (title, image) in enumerate(pictures.items()):
            _whole_and_zoomed(pairs[i], image, mask if hole and i == 0 else None, box, title)
        _switch_off(pairs[len(pictures) :])
    return axes[0, 0].figure


def _rows_and_columns(n, per_row=MOST_IN_A_ROW):
    """For n pictures, about equally many to a row."""
    rows = -(-n // per_row)
    return rows, -(-n // rows)


def _switch_off(axes):
    for ax in np.ravel(axes):
        ax.set_axis_off()


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
        _line(ax, hole[cut], "white", linewidth + 1.4)
        _line(ax, hole[cut], HOLE_COLOR / 255, linewidth)


def _line(ax, mask, color, linewidth):
    hole = _hole_of(mask)
    if hole.any() and not hole.all():
        ax.contour(hole.astype(float), levels=[0.5], colors=[color], linewidths=linewidth)


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
    mask_color: np.ndarray = HOLE_COLOR,
) -> Figure:
    """Draws pictures of any sizes side by side, equally large on the page; more than six in several rows.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; the first of each batch is drawn.
        masks: for each picture (B, 1, H, W), 1 = hole, or None: holes are colored.
        outlines: for each picture (B, 1, H, W), 1 = hole, or None: a line is drawn around holes.
        squares: for each picture (row, column, side) in pixels: a square to draw around its pixel.
        caption: a line under the figure: what it was made with.
        square_color: of the squares; the default is for pictures.
        mask_color: of the holes; ``plots.SEEN_COLOR`` is that of what the loss looks at.

    Returns:
        The figure.
    """
    (rows, columns), inches = _rows_and_columns(len(pictures)), 2.8
    figsize = (inches * columns, (inches + 0.25) * rows + 0.2)
    with drawn_on(None, caption, (rows, columns), figsize, squeeze=False) as axes:
        for i, (title, image) in enumerate(pictures.items()):
            ax = show_picture(image, None if masks is None else masks[i], title, axes.flat[i], mask_color)
            _outline(ax, None if outlines is None else outlines[i])
            if squares is not None:
                row, column, side = squares[i]
                corner = (column - side / 2, row - side / 2)
                ax.add_patch(Rectangle(corner, side, side, fill=False, color=square_color, linewidth=2.5))
                if side > image.shape[-1] / 12:  # a cross would hide what a smaller square shows
                    ax.plot(column, row, "+", color=square_color, markersize=10, markeredgewidth=2)
                ax.set_xlim(-0.5, image.shape[-1] - 0.5)  # the square may reach beyond the picture
                ax.set_ylim(image.shape[-2] - 0.5, -0.5)
        _switch_off(axes.flat[len(pictures) :])
    return axes[0, 0].figure


def show_influence(
    influence: Mapping[str, Tensor], squares: Squares | None = None, caption: str = "", outlines: Masks | None = None
) -> Figure:
    """Draws maps of influence side by side. Light gray is none, and black is the most in a map.

    The fourth root is drawn, or little would be seen of what is far away.

    Args:
        influence: from a title to (H, W), 0 or more, as ``seen_by`` and ``reached_by`` give it.
        squares: for each map (row, column, side) in pixels: a square to draw around its pixel.
        outlines: for each map (B, 1, H, W), 1 = hole, or None: a line is drawn around holes.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    shares = {title: (one / one.max().clamp(min=1e-30)) ** 0.25 for title, one in influence.items()}
    pictures = {title: (0.92 * (1 - share)).expand(1, 3, -1, -1) for title, share in shares.items()}
    return show_row(pictures, outlines=outlines, squares=squares, caption=caption, square_color=REACH_COLOR)


def show_shares(shares: Mapping[str, Tensor], outlines: Masks | None = None, of_what: str = "", caption: str = "") -> Figure:
    """Draws maps of shares side by side, and a bar that says which gray is which share.

    Args:
        shares: from a title to (H, W) in [0, 1]. White is 1, black the smallest share of all maps, in tenths.
        outlines: for each map (B, 1, H, W), 1 = hole, or None: a line is drawn around holes.
        of_what: the bar's label.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    inches, least = 2.8, min(0.9, *(math.floor(10 * float(share.min())) / 10 for share in shares.values()))
    with drawn_on(None, caption, (1, len(shares)), (inches * len(shares) + 0.8, inches + 0.45), squeeze=False) as axes:
        for i, (title, share) in enumerate(shares.items()):
            ax = axes[0, i]
            drawn = ax.imshow(share.numpy(force=True), cmap="gray", vmin=least, vmax=1)
            ax.set(title=title, xticks=[], yticks=[])
            ax.spines[:].set_visible(True)  # or a white map would not be seen on a white page
            _outline(ax, None if outlines is None else outlines[i])
        axes[0, 0].figure.colorbar(drawn, ax=axes, label=of_what, format=PercentFormatter(1), shrink=0.8)
    return axes[0, 0].figure


def _where_most_is(hole, side, middle):
    """The middle of the square that holds most of a hole: of those that hold nearly the most, the nearest to a place."""
    step = max(side // 32, 1)  # fine enough for a zoom
    held = uniform_filter(hole[::step, ::step].astype(float), max(side // step, 1), mode="constant")
    rows, columns = np.nonzero(held >= 0.98 * held.max())
    nearest = np.argmin((rows * step - middle[0]) ** 2 + (columns * step - middle[1]) ** 2)
    return rows[nearest] * step, columns[nearest] * step


def show_channels(
    z: Sequence[Tensor],
    n_channels: int = 6,
    names: Sequence[str] = (),
    caption: str = "",
    picture: tuple[Tensor, Tensor] | None = None,
) -> Figure:
    """Draws channels of a featuremap, evenly picked: a row for each of its tensors.

    Args:
        z: a tuple of tensors (1, C, h, w), as ``model.front`` gives it.
        n_channels: of each tensor.
        names: for each tensor.
        caption: a line under the figure: what it was made with.
        picture: the image and the mask that z was made from, to be drawn first.

    Returns:
        The figure.
    """
    columns = n_channels + (picture is not None)
    with drawn_on(None, caption, (len(z), columns), (1.9 * columns, 2.1 * len(z) + 0.2), squeeze=False) as axes:
        if picture is not None:
            _switch_off(axes[:, 0])
            show_picture(*picture, "what z is made from", axes[0, 0])
        for row, tensor in enumerate(z):
            picked = np.linspace(0, tensor.shape[1] - 1, n_channels).astype(int)
            for ax, channel in zip(axes[row, -n_channels:], picked, strict=True):
                ax.imshow(tensor[0, channel].detach().cpu().numpy(), cmap="gray")
                ax.set_title(f"{names[row] if names else 'channel'} {channel}")
                ax.set_axis_off()
    return axes[0, 0].figure


def zoom_on_hole(mask: Tensor, share: float = 0.4) -> Box:
    """Returns (top, left, height, width) of a square around the middle of the hole, or where it holds the most of the hole.

    Args:
        mask: (B, 1, H, W), 1 = hole; the first of the batch is looked at.
        share: side of the square as a share of the short side.
    """
    height, width = mask.shape[-2:]
    side = int(min(share, 1) * min(height, width))
    hole, part = _hole_of(mask), bounding_box(mask[:1])
    middle_y, middle_x = (
        np.average(np.arange(hole.shape[i]), weights=hole.sum(1 - i)) if hole.any() else hole.shape[i] / 2 for i in (0, 1)
    )
    if max(lines.stop - lines.start for lines in part) > side:  # the middle of several holes may be none of them
        middle_y, middle_x = _where_most_is(hole, side, (middle_y, middle_x))
    top = int(np.clip(middle_y - side / 2, 0, height - side))
    left = int(np.clip(middle_x - side / 2, 0, width - side))
    return top, left, side, side
