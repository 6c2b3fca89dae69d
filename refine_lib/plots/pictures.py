"""Pictures side by side, with holes, zooms and squares; pyramids; featuremaps."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.style import HOLE_COLOUR, ZOOM_COLOUR, house_style, write_caption


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


def compare(pictures, mask=None, zoom=None, hole=True, caption=""):
    """Draws pictures side by side, and under each what a box of it shows, enlarged.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; all of one size, the first of each batch is drawn.
        mask: (B, 1, H, W), 1 = hole.
        zoom: (top, left, height, width) of the box in pixels; None takes a square around the hole's middle.
        hole: whether the hole is coloured in the first picture.
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
            first_hole = mask if hole and i == 0 else None
            show_picture(image, first_hole, title, axes[0, i])
            box = Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=1.5)
            axes[0, i].add_patch(box)
            cut = (..., slice(top, top + tall), slice(left, left + wide))
            show_picture(image[cut], None if first_hole is None else first_hole[cut], "", axes[1, i])
            axes[1, i].add_patch(Rectangle((-0.5, -0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=3, clip_on=False))
        write_caption(figure, caption)
    return figure


def show_row(pictures, masks=None, outlines=None, squares=None, caption=""):
    """Draws pictures of any sizes side by side, equally large on the page.

    Args:
        pictures: from a title to an image (B, 3, H, W) in [0, 1]; the first of each batch is drawn.
        masks: for each picture (B, 1, H, W), 1 = hole, or None: holes are coloured.
        outlines: for each picture (B, 1, H, W), 1 = hole, or None: a line is drawn around holes.
        squares: for each picture (row, column, side) in pixels: a square to draw around its pixel.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    with house_style():
        n, inches = len(pictures), 2.8
        figure, axes = plt.subplots(1, n, figsize=(inches * n, inches + 0.45), layout="constrained", squeeze=False)
        for i, (title, image) in enumerate(pictures.items()):
            ax = show_picture(image, None if masks is None else masks[i], title, axes[0, i])
            if outlines is not None and outlines[i] is not None:
                ax.contour(to_pixels(outlines[i]), levels=[127], colors=[HOLE_COLOUR / 255], linewidths=1.5)
            if squares is not None:
                row, column, side = squares[i]
                corner = (column - side / 2, row - side / 2)
                ax.add_patch(Rectangle(corner, side, side, fill=False, color=ZOOM_COLOUR, linewidth=2.5))
                ax.plot(column, row, "+", color=ZOOM_COLOUR, markersize=10, markeredgewidth=2)
                ax.set_xlim(-0.5, image.shape[-1] - 0.5)  # the square may reach beyond the picture
                ax.set_ylim(image.shape[-2] - 0.5, -0.5)
        write_caption(figure, caption)
    return figure


def show_channels(z, n_channels=6, names=None, caption=""):
    """Draws channels of a featuremap, evenly picked: a row for each of its tensors.

    Args:
        z: a tuple of tensors (1, C, h, w), as ``model.front`` gives it.
        n_channels: of each tensor.
        names: for each tensor.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    with house_style():
        figure, axes = plt.subplots(
            len(z), n_channels, figsize=(1.9 * n_channels, 2.1 * len(z) + 0.2), layout="constrained", squeeze=False
        )
        for row, tensor in enumerate(z):
            picked = np.linspace(0, tensor.shape[1] - 1, n_channels).astype(int)
            for ax, channel in zip(axes[row], picked, strict=True):
                ax.imshow(tensor[0, channel].detach().cpu().numpy(), cmap="gray")
                ax.set_title(f"{names[row] if names else 'channel'} {channel}")
                ax.set_axis_off()
        write_caption(figure, caption)
    return figure


def compare_rows(pictures, mask, caption=""):
    """Draws several scenes, a row to each: every picture of it, and beside each what lies around the hole, enlarged.

    Args:
        pictures: from a title to images (B, 3, H, W) in [0, 1], a row for each of the batch.
        mask: (B, 1, H, W), 1 = hole. The hole is coloured in the first picture of a row.
        caption: a line under the figure: what it was made with.

    Returns:
        The figure.
    """
    rows, (height, width) = len(mask), mask.shape[-2:]
    with house_style():
        inches = 1.5
        shape = (2 * inches * len(pictures) + 0.2, inches * height / width * rows + 0.5)
        figure = plt.figure(figsize=shape, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        axes = figure.subplots(rows, 2 * len(pictures), squeeze=False)
        for row in range(rows):
            one = slice(row, row + 1)
            top, left, tall, wide = zoom_on_hole(mask[one])
            cut = (one, slice(None), slice(top, top + tall), slice(left, left + wide))
            for column, (title, image) in enumerate(pictures.items()):
                whole, zoom = axes[row, 2 * column : 2 * column + 2]
                hole = mask if column == 0 else None
                show_picture(image[one], None if hole is None else hole[one], title if row == 0 else "", whole)
                show_picture(image[cut], None if hole is None else hole[cut], "", zoom)
                whole.add_patch(Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=1))
                zoom.add_patch(Rectangle((-0.5, -0.5), wide, tall, fill=False, color=ZOOM_COLOUR, linewidth=2.5, clip_on=False))
        write_caption(figure, caption)
    return figure


def zoom_on_hole(mask, share=0.4, side=None):
    """(top, left, height, width) of a square around the middle of the hole.

    Args:
        mask: (B, 1, H, W), 1 = hole; the first of the batch is looked at.
        share: side of the square as a share of the short side.
        side: in pixels, in place of the share; at most the short side.
    """
    height, width = mask.shape[-2:]
    side = min(int(share * min(height, width)) if side is None else side, height, width)
    ys, xs = np.nonzero(to_pixels(mask))
    middle_y, middle_x = (ys.mean(), xs.mean()) if len(ys) else (height / 2, width / 2)
    top = int(np.clip(middle_y - side / 2, 0, height - side))
    left = int(np.clip(middle_x - side / 2, 0, width - side))
    return top, left, side, side
