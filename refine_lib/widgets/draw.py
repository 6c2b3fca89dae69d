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
from refine_lib.plots.style import RC, SEEN_COLOR, dress
from refine_lib.pyramid import Pyramid, whole_hole

GAP_PX = 8
STRIP_PX = 120  # height of a picture in a strip
MOST_STILL_BYTES = 34_000  # of a picture that a notebook keeps, twice (``Panel.still``)
# Colors of a chart stand for those of the page, light or dark: ``charts`` puts the page's in their places.
TEXT, NOW, GHOST, GRID = "#010203", "#010204", "#010205", "#010206"
OF_PAGE = {TEXT: "currentColor", NOW: "var(--refine-now)", GHOST: "var(--refine-ghost)", GRID: "var(--refine-grid)"}


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


def losses(runs: Sequence[Any]) -> list[Figure]:
    """Draws the loss of every iteration of the latest run, a chart for each level, and those of the runs before as ghosts.

    Returns:
        Figures of matplotlib that pyplot does not know, all with the same limits.
    """
    sizes = sorted({size for run in runs for size in run.sizes[1:]})
    drawn = [values for run in runs for values in run.losses if values]
    reached = [len(values) - 1 for values in drawn]  # as far as the latest run is to go, or an earlier one went
    right = 1.06 * max([1, *reached, *(run.settings.n_iters for run in runs[-1:])])
    top = 1.05 * max([1e-9, *(max(values) for values in drawn)]) if drawn else 1
    figures = []
    for size in sizes or [None]:
        figures.append(Figure(figsize=(3.6, 2.5), dpi=100, facecolor="none"))
        figures[-1].subplots_adjust(left=0.15, right=0.99, bottom=0.2, top=0.88)  # a layout engine takes twice the time
        ax = figures[-1].subplots()
        dress(ax)
        _in_colors_of_page(ax)
        ax.locator_params(nbins=5)
        ax.set(xlim=(0, right), ylim=(0, top))
        title = "here the loss of every iteration will be" if size is None else f"loss at {size[0]} x {size[1]} px"
        ax.set_title(title, loc="left", fontsize=RC["axes.titlesize"], color=TEXT)
        ax.set_xlabel("updates of the featuremap z", fontsize=RC["font.size"], color=TEXT)
    for run in runs:
        latest = run is runs[-1]
        look = dict(color=NOW, linewidth=2, zorder=3) if latest else dict(color=GHOST, linewidth=1.2, zorder=2)
        for size, values in zip(run.sizes[1:], run.losses, strict=False):
            if values:
                ax = figures[sizes.index(size)].axes[0]
                ax.plot(values, marker="o", markersize=3 if latest else 0, label=f"run {run.number}", **look)
                end, beside = (len(values) - 1, values[-1]), dict(xytext=(4, 0), textcoords="offset points", va="center")
                ax.annotate(f"{run.number}", end, fontsize=9, color=look["color"], **beside)
    return figures


def _in_colors_of_page(ax):
    ax.set_facecolor("none")
    ax.tick_params(colors=TEXT)
    ax.spines[:].set_color(TEXT)
    ax.grid(True, color=GRID)


def charts(figures: Sequence[Figure], words: str) -> str:
    """Returns figures as the HTML of SVGs beside each other, in the page's own colors, and in words."""
    drawn = []
    for figure in figures:
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        drawn.append('<svg class="refine-chart" aria-hidden="true"' + file.getvalue().partition("<svg")[2])
    svg = "".join(drawn)
    for color, of_page in OF_PAGE.items():
        svg = svg.replace(color, of_page)
    return f'<div class="refine-charts" role="img" aria-label="{html.escape(words)}">{svg}</div>'


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


def instead_of_an_error(jpeg: str, name: str) -> str:
    """Returns HTML that shows a picture where the output after it is a widget whose kernel is gone, and hides that output.

    Only JupyterLab's page fits these rules, and only where it trusts the notebook: elsewhere nothing is seen.

    Args:
        jpeg: the picture, in base64.
        name: a class of the page's that nothing else has.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    output, error = ".jp-OutputArea-child", ".jp-OutputArea-output.jupyter-widgets"
    instead = f"{output}:has(.{name}):has(+ {output} > {error})"
    return f"""<style>.{name} {{ display: none; max-width: 100%; width: {picture.width}px;
  aspect-ratio: {picture.width / picture.height:.4f}; background: url(data:image/jpeg;base64,{jpeg}) 0 0 / 100%; }}
{output}:has(.{name}) {{ display: none; }}
{instead} {{ display: flex; }}
{instead} .{name} {{ display: block; }}
{instead} + {output} > {error} {{ display: none; }}
</style><div class="{name}" role="img" aria-label="a still picture of the panel"></div>"""


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


def about(seconds: float) -> str:
    """Returns an estimate in whole seconds, since it knows no less: ``1 s``, ``12 s``, ``3 min 20 s``."""
    return duration(max(round(seconds), 1)).replace(".0 s", " s")


def png_of(picture: Image.Image, **options) -> bytes:
    """Returns a picture as the bytes of a PNG; the options are Pillow's."""
    file = io.BytesIO()
    picture.save(file, "PNG", **{"compress_level": 3} | options)
    return file.getvalue()
