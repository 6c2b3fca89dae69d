"""What the panel shows, as PNG and HTML. Drawn without pyplot and without a global setting, so that any thread may draw."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from refine_lib.masks import erode
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.pictures import with_hole
from refine_lib.plots.style import RC, dress
from refine_lib.pyramid import Pyramid, whole_hole

GAP_PX = 8
STRIP_PX = 120  # height of a picture in a strip
MOST_STILL_BYTES = 60_000  # of a picture that a notebook keeps
# Colors of a chart stand for those of the page, light or dark: ``figure_svg`` puts the page's in their places.
TEXT, NOW, GHOST, GRID = "#010203", "#010204", "#010205", "#010206"
OF_PAGE = {TEXT: "currentColor", NOW: "var(--refine-now)", GHOST: "var(--refine-ghost)", GRID: "var(--refine-grid)"}
SEEN_COLOR = np.array([255, 212, 0], dtype=np.uint8)  # of what the loss looks at


def to_png(pixels: np.ndarray, longest: int | None = None) -> bytes:
    """Returns pixels (H, W, 3) of uint8 as a PNG. It is made smaller where a side is above ``longest`` px."""
    picture = Image.fromarray(pixels)
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.BOX)
    return png_of(picture)


def cut(pixels: np.ndarray, box: Sequence[float], size: tuple[int, ...]) -> bytes:
    """Returns what a box (left, top, width, height, in shares of the picture) shows, ``size`` px wide and high, as a PNG.

    A picture of a smaller level is enlarged as the method enlarges it, bilinearly.
    """
    spans, parts = [], []
    for share, length, pixel_count, shown in zip(box[:2], box[2:], pixels.shape[1::-1], size, strict=True):
        start, stop = share * pixel_count, (share + length) * pixel_count
        beside = int((stop - start) / shown) + 2  # what the filter sees
        first = max(int(start) - beside, 0)
        spans.append((start - first, stop - first))
        parts.append(slice(first, int(stop) + beside + 1))
    (left, right), (top, bottom) = spans
    picture = Image.fromarray(np.ascontiguousarray(pixels[parts[1], parts[0]]))  # Pillow copies: no more than is shown
    return png_of(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def holes(pyramid: Pyramid, erosion: int, height: int = 130) -> tuple[bytes, list[float]]:
    """Draws the hole of each refined level at the size at which the loss looks at it, and in yellow what the loss sees.

    Args:
        erosion: diameter in pixels by which the hole is eroded for the loss.
        height: of a level, in pixels.

    Returns:
        A PNG with the levels side by side, and the share of each hole's pixels that the loss sees, 0 to 1. Both are empty
        where there is one level.
    """
    pictures, shares = [], []
    for below, level in zip(pyramid[:-1], pyramid[1:], strict=True):
        hole = whole_hole(level.mask[:1], below.size)
        seen = erode(hole, erosion)
        shares.append(seen.sum().item() / max(hole.sum().item(), 1))
        gray = to_pixels(below.image[:1]).mean(-1, keepdims=True).repeat(3, -1).astype(np.uint8) // 2 + 96
        pixels = np.where(to_pixels(seen)[..., None] > 0, SEEN_COLOR, with_hole(gray, hole))
        width = round(height * below.size[1] / below.size[0])
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST).convert("RGBA")
        pictures.append(np.pad(np.asarray(picture), ((0, 0), (0, GAP_PX), (0, 0))))
    return to_png(np.concatenate(pictures, axis=1)) if pictures else b"", shares


def losses(runs: Sequence[Any]) -> Figure:
    """Draws the loss of every iteration of the latest run, an axes for each level, and those of the runs before as ghosts.

    Returns:
        A ``matplotlib.figure.Figure`` that pyplot does not know.
    """
    sizes = sorted({size for run in runs for size in run.sizes[1:]})
    figure = Figure(figsize=(10, 2.6), dpi=100, facecolor="none")
    figure.subplots_adjust(left=0.075, right=0.99, bottom=0.19, top=0.9, wspace=0.08)  # a layout engine takes twice the time
    axes = figure.subplots(1, max(len(sizes), 1), sharey=True, squeeze=False)[0]
    for ax, size in zip(axes, sizes or [None], strict=True):
        dress(ax)
        _in_colors_of_page(ax)
        ax.locator_params(nbins=5)
        title = "the loss of every iteration will be drawn here" if size is None else f"{size[0]} x {size[1]} px"
        ax.set_title(title, loc="left", fontsize=RC["axes.titlesize"] - 2 * (len(sizes) > 4), color=TEXT)
    figure.supxlabel("updates of the featuremap z", y=0.01, fontsize=RC["font.size"], color=TEXT)
    axes[0].set_ylabel("loss in the eroded hole", fontsize=RC["font.size"], color=TEXT)
    for run in runs:
        latest = run is runs[-1]
        look = dict(color=NOW, linewidth=2, zorder=3) if latest else dict(color=GHOST, linewidth=1.2, zorder=2)
        for size, values in zip(run.sizes[1:], run.losses, strict=False):
            if values:
                ax = axes[sizes.index(size)]
                ax.plot(values, marker="o", markersize=3 if latest else 0, label=f"run {run.number}", **look)
                end, beside = (len(values) - 1, values[-1]), dict(xytext=(4, 0), textcoords="offset points", va="center")
                ax.annotate(f"{run.number}", end, fontsize=8, color=look["color"], **beside)
    reached = [len(values) - 1 for run in runs for values in run.losses]
    for ax in axes:  # as far as the latest run is to go, or an earlier one went
        ax.set_xlim(left=0, right=1.06 * max([1, *reached, *(run.settings.n_iters for run in runs[-1:])]))
    axes[0].set_ylim(bottom=0)
    return figure


def _in_colors_of_page(ax):
    ax.set_facecolor("none")
    ax.tick_params(colors=TEXT)
    ax.spines[:].set_color(TEXT)
    ax.grid(True, color=GRID)


def figure_svg(figure: Figure, words: str) -> str:
    """Returns a figure as the HTML of an SVG in the page's own colors, as wide as there is room, and in words."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue().partition("<svg")[2]
    for color, of_page in OF_PAGE.items():
        svg = svg.replace(color, of_page)
    return f'<svg class="refine-chart" role="img" aria-label="{html.escape(words)}"{svg}'


def still(pixels: np.ndarray, words: str) -> bytes:
    """Returns pixels (H, W, 3) of uint8 as a small JPEG with a line of words under it: at most ``MOST_STILL_BYTES``."""
    for side, quality in ((512, 85), (512, 60), (384, 40), (256, 20)):
        picture = Image.fromarray(pixels)
        picture.thumbnail((side, side), Image.Resampling.BOX)
        page = Image.new("RGB", (max(picture.width, 330), picture.height + 20), "white")
        page.paste(picture)
        ImageDraw.Draw(page).text((4, picture.height + 4), words, fill="black")
        file = io.BytesIO()
        page.save(file, "JPEG", quality=quality)
        if file.tell() <= MOST_STILL_BYTES:
            break
    return file.getvalue()


def strip(pictures: Mapping[str, np.ndarray], box: Sequence[float]) -> str:
    """Returns what a box (``cut``) shows of pictures (H, W, 3), by their words, beside each other, as HTML."""

    def shown(words, pixels):
        height, width = pixels.shape[:2]
        aspect = (box[2] * width) / (box[3] * height)
        png = cut(pixels, box, (max(round(STRIP_PX * aspect), 1), STRIP_PX))
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return f'<figure><img alt="after {words}" src="{source}"><figcaption>{words}</figcaption></figure>'

    return f'<div class="refine-strip">{"".join(shown(*each) for each in pictures.items())}</div>'


def as_html(message: str, details: str = "") -> str:
    """Returns a sentence for the panel. Where there is a traceback, it can be opened."""
    text = html.escape(message)
    if details:
        text += f"<details><summary>the traceback</summary><pre>{html.escape(details)}</pre></details>"
    return text


def duration(seconds: float) -> str:
    """Returns ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def png_of(picture: Image.Image, **options) -> bytes:
    """Returns a picture as the bytes of a PNG; the options are Pillow's."""
    file = io.BytesIO()
    picture.save(file, "PNG", **{"compress_level": 3} | options)
    return file.getvalue()
