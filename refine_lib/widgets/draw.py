"""What the panel shows, as PNG and HTML. Drawn without pyplot and without a global setting, so that any thread may draw."""

import html
import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from refine_lib.masks import erode
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.style import HOLE_COLOR, RC, dress
from refine_lib.pyramid import whole_hole

NOW, GHOST = "#0072b2", "#b0b0b0"
SEEN_COLOR = np.array([255, 212, 0], dtype=np.uint8)  # of what the loss looks at


def to_png(pixels, longest=None):
    """Pixels (H, W, 3) of uint8 as the bytes of a PNG; made smaller where a side is above ``longest`` px."""
    picture = Image.fromarray(pixels)
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.BOX)
    return _png(picture)


def cut(pixels, box, size):
    """What a box (left, top, width, height, in shares of the picture) shows, at most ``size`` px wide and high, as a PNG.

    A picture of a smaller level is enlarged as the method enlarges it, bilinearly.
    """
    picture = Image.fromarray(pixels)
    left, top, width, height = box
    corners = (left * picture.width, top * picture.height, (left + width) * picture.width, (top + height) * picture.height)
    return _png(picture.resize(size, Image.Resampling.BILINEAR, box=corners))


def with_hole(pixels, mask):
    """Pixels (H, W, 3) of uint8 with the hole of a mask (1, 1, H, W) in its colour."""
    return np.where(to_pixels(mask)[..., None] > 0, HOLE_COLOR, pixels)


def holes(pyramid, erosion, height=130):
    """The hole of each refined level at the size at which the loss looks at it, and in yellow what it sees after the erosion.

    Returns:
        A PNG with the levels side by side, and the share of each hole's pixels that the loss sees, 0 to 1.
    """
    pictures, shares = [], []
    for below in pyramid[:-1]:
        level = pyramid[len(pictures) + 1]
        hole = whole_hole(level.mask[:1], below.size)
        seen = erode(hole, erosion)
        shares.append(seen.sum().item() / max(hole.sum().item(), 1))
        grey = to_pixels(below.image[:1]).mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8) // 2 + 96
        pixels = np.where(to_pixels(seen)[..., None] > 0, SEEN_COLOR, with_hole(grey, hole))
        width = round(height * below.size[1] / below.size[0])
        pictures.append(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
    gap = 8
    strip = Image.new("RGBA", (sum(p.width + gap for p in pictures) or 1, height))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    return _png(strip), shares


def losses(runs):
    """Draws the loss of every iteration of the latest run, an axes for each level, and those of the runs before as ghosts.

    Returns:
        A ``matplotlib.figure.Figure`` that pyplot does not know.
    """
    sizes = sorted({size for run in runs for size in run.sizes[1:]})
    figure = Figure(figsize=(10, 2.6), dpi=100, facecolor="white")
    figure.subplots_adjust(left=0.075, right=0.99, bottom=0.19, top=0.9, wspace=0.08)  # a layout engine takes twice the time
    axes = figure.subplots(1, max(len(sizes), 1), sharey=True, squeeze=False)[0]
    for ax, size in zip(axes, sizes or [None], strict=True):
        dress(ax)
        ax.locator_params(nbins=5)
        title = "the loss of every iteration will be drawn here" if size is None else f"{size[0]} x {size[1]} px"
        ax.set_title(title, loc="left", fontsize=RC["axes.titlesize"])
        ax.set_xlabel("updates of the featuremap z", fontsize=RC["font.size"])
    axes[0].set_ylabel("loss in the eroded hole", fontsize=RC["font.size"])
    for run in runs:
        latest = run is runs[-1]
        look = dict(color=NOW, linewidth=2, zorder=3) if latest else dict(color=GHOST, linewidth=1.2, zorder=2)
        for size, values in zip(run.sizes[1:], run.losses, strict=False):
            if values:
                ax = axes[sizes.index(size)]
                ax.plot(values, marker="o", markersize=3 if latest else 0, label=f"run {run.number}", **look)
                ax.annotate(
                    f"{run.number}",
                    (len(values) - 1, values[-1]),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=look["color"],
                )
    reached = [len(values) - 1 for run in runs for values in run.losses]
    for ax in axes:  # as far as the latest run is to go, or an earlier one went
        ax.set_xlim(left=0, right=1.06 * max([1, *reached, *(run.settings.n_iters for run in runs[-1:])]))
    axes[0].set_ylim(bottom=0)
    return figure


def figure_png(figure):
    """The bytes of a PNG of a figure, in the size that the figure has."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return to_png(np.asarray(canvas.buffer_rgba())[..., :3])


def table(runs, plain_error=None):
    """The runs as an HTML table, the latest first; with their errors where that of the plain pass is given."""
    with_error = plain_error is not None
    names = ["run", "learning rate", "iterations", "erosion", "smallest scale", "loss", "optimizer", "last loss"]
    names += ["error"] * with_error + ["seconds", ""]
    rows = []
    for run in reversed(runs):
        s = run.settings
        lr = f"{s.lr:.2g}" if s.optimizer == "adam" else ""  # Polyak's steps have none
        cells = [run.number, lr, s.n_iters, s.erosion, f"{s.smallest_scale:g}", s.loss, s.optimizer, _number(run.loss)]
        rows.append([*cells, *[_number(run.error)] * with_error, f"{run.seconds:.1f}", run.state])
    if with_error:
        rows.append(["plain", *[""] * 7, _number(plain_error), "", ""])
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    body = body.replace("<tr>", '<tr class="latest">', 1) if runs else body
    return f'<table class="refine-runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def in_words(message, details=""):
    """A sentence for the panel, as HTML; where there is a traceback it can be opened."""
    text = html.escape(message)
    if details:
        text += f"<details><summary>the traceback</summary><pre>{html.escape(details)}</pre></details>"
    return text


def duration(seconds):
    """``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _number(value):
    return "" if value is None else f"{value:.4f}"


def _png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return file.getvalue()
