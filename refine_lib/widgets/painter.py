"""A hole to paint on a picture: ``MaskPainter``."""

import html
import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anywidget
import numpy as np
import torch.nn.functional as F
import traitlets
from ipywidgets import HTML, Button, Dropdown, HBox, IntSlider, IntText, Text, ToggleButton, ToggleButtons
from PIL import Image
from torch import Tensor, from_numpy

from refine_lib.checks import check_image, check_image_and_mask
from refine_lib.photos.canvas import FALLS_WITH_DISTANCE, as_extent, extended
from refine_lib.photos.files import Photo, read_photo
from refine_lib.photos.holes import Hole, read_hole
from refine_lib.photos.pixels import BUILT_IN, load_photo, to_image, to_pixels
from refine_lib.photos.work import Work
from refine_lib.plots.pictures import with_hole
from refine_lib.scenes import random_scenes
from refine_lib.widgets.controls import ROW, quietly
from refine_lib.widgets.draw import to_png
from refine_lib.widgets.painting import SHOWN_SIDE_PX, Painting, looks_like_a_mask
from refine_lib.widgets.panel import Panel
from refine_lib.widgets.viewer import text_of

LARGEST_FILE_BYTES = 200 * 2**20
TOOLS = ("paint", "erase", "rectangle", "erase a rectangle")
SCENES: dict[Any, int] = {f"drawn scene {seed}": seed for seed in range(6)}
SIDES = ("top", "right", "bottom", "left")
KEYS = """<details class="refine-keys"><summary>Keys and gestures</summary><p>
<b>Paint</b>: drag with the mouse, a pen or one finger. Shift draws a straight line from the last point. Escape drops the
stroke.<br><b>Brush</b>: [ and ] change its width.<br><b>Zoom</b>: the wheel, + and -; 0 or a double click shows all.<br>
<b>Move what is seen</b>: drag with the middle button, or hold Space and drag. Two fingers scroll and zoom the page.<br>
<b>Undo, redo</b>: Ctrl-Z; Ctrl-Shift-Z or Ctrl-Y.<br><b>Open</b>: paste a picture, or drop a photo or its mask here.<br>
<b>With keys alone</b>: arrows move the cursor, with Shift further. Enter begins a stroke, and ends it.</p></details>"""


class Canvas(anywidget.AnyWidget):
    """What is painted on. The page sends the points of a stroke, in pixels of the picture, and files in parts."""

    _esm = text_of("painter.js", "page.js")
    _css = text_of("widgets.css")
    picture = traitlets.Bytes().tag(sync=True)
    hole = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), [1, 1]).tag(sync=True)  # (H, W) of the picture in full
    width = traitlets.Float(20.0).tag(sync=True)  # of the brush, in pixels of the picture; the page changes it, too
    rectangle = traitlets.Bool(False).tag(sync=True)
    erases = traitlets.Bool(False).tag(sync=True)
    largest_file = traitlets.Int(LARGEST_FILE_BYTES).tag(sync=True)


class Sent(io.BytesIO):
    """A file that the page has sent. Its name is for messages."""

    name = ""

    def __repr__(self):
        return repr(self.name)


class MaskPainter(Panel):
    """A picture on a page, and a hole that is painted on it with mouse, pen, finger or keys.

    A stroke is painted at the picture's own size; what the page is sent has at most 1024 px a side. Photos and masks are read
    as ``inpaint_photo`` reads them, and refused in its words: what was erased from a photo is its hole.

    Args:
        image: (1, 3, H, W) in [0, 1].
        mask: the hole to begin with, (1, 1, H, W), 1 = hole; None begins without.

    Attributes:
        image: the picture, as above; another one after a photo has been opened, a larger one after it was extended.
        mask: the hole as painted, (1, 1, H, W), 1 = hole, of the image's dtype and on its device. It can be set.

    Raises:
        TypeError, ValueError: where an argument is not as above.
    """

    image: Tensor
    large = ("image", "_painting")

    def __init__(self, image: Tensor, mask: Tensor | None = None):
        self.canvas, self._parts = Canvas(), {}
        narrow = {"width": "auto"}
        number = {"style": {"description_width": "50px"}, "layout": {"width": "120px"}}
        wide = {"style": {"description_width": "70px"}, "layout": {"width": "320px", "max_width": "100%"}}
        controls = SimpleNamespace(
            picture=Dropdown(options=["", *SCENES, *BUILT_IN], description="picture"),
            path=Text(description="or a path", placeholder="of a photo, of any size", continuous_update=False, **wide),
            tool=ToggleButtons(options=TOOLS, style={"button_width": "auto"}, layout={"width": "auto"}),
            width=IntSlider(20, min=1, max=200, description="brush, px", continuous_update=False),
            undo=Button(description="Undo", icon="undo", layout=narrow),
            redo=Button(description="Redo", icon="repeat", layout=narrow),
            clear=Button(description="Clear", icon="trash", layout=narrow),
            invert=Button(description="Invert", icon="adjust", layout=narrow),
            unfold=ToggleButton(description="Extend ...", icon="expand", layout=narrow),
            sides=[IntText(description=side, **number) for side in SIDES],
            extend=Button(description="Extend by these pixels", layout={"width": "180px"}),
            use=Button(description="Fill this hole", icon="arrow-down", button_style="primary", layout={"display": "none"}),
            message=HTML().add_class("refine-problem"),
            are_filled=False,
        )
        changes = (controls.undo, controls.redo, controls.clear, controls.invert, controls.unfold, controls.use)
        rows = ((controls.picture, controls.path), (controls.tool, controls.width), changes, (*controls.sides, controls.extend))
        picture, brush, below, self._fold = (HBox(row, layout=ROW) for row in rows)
        rows = [picture, brush, self.canvas, below, self._fold, controls.message, HTML(KEYS)]
        super().__init__(controls, rows, threading.RLock())
        self.add_class("refine-mask-painter")
        self._take(image, mask)
        self._unfold()
        self.canvas.on_msg(self._from_page)
        self.canvas.observe(lambda _: self._shown(self._widen), "width")
        self._connect({controls.tool: self._choose_tool, controls.width: self._choose_tool, controls.use: self._use})
        self._connect({controls.unfold: self._unfold, controls.extend: self._extend})
        self._connect(
            {chosen: lambda chosen=chosen: self._choose(chosen.value) for chosen in (controls.picture, controls.path)}
        )
        named = ("undo", "redo", "clear", "invert")
        self._connect({getattr(controls, what): lambda what=what: self._change(what) for what in named})

    def __repr__(self):
        if self.is_closed:
            return "MaskPainter(closed)"
        height, width = self.image.shape[-2:]
        return f"MaskPainter({height} x {width} px, {self.mask.mean().item():.1%} hole)"

    def _still(self):
        return with_hole(to_pixels(self.image), self.mask)

    @property
    def mask(self) -> Tensor:
        return self._painting.mask.to(self.image)

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        check_image_and_mask(self.image, mask)
        self._change("load", mask)

    def load(self, name_or_path: str | os.PathLike | io.BytesIO) -> None:
        """Takes another picture, of the dtype before: ``"drawn scene 0"``, one of scikit-image's, or a photo.

        What was erased from a photo is its hole. All others begin without.

        Raises:
            FileNotFoundError, ValueError: as ``inpaint_photo``.
        """
        if name_or_path in SCENES:
            self._take(random_scenes(256, seed=SCENES[name_or_path]).to(self.image))
        elif name_or_path in BUILT_IN:
            self._take(load_photo(name_or_path).to(self.image))
        else:
            is_path = isinstance(name_or_path, str | os.PathLike)
            photo = read_photo(os.path.expanduser(name_or_path) if is_path else name_or_path)
            try:
                share, said = read_hole(None, photo).share, f"The hole is what was erased from {photo.name}."
            except ValueError:  # nothing was
                share, said = np.zeros(photo.size[::-1], np.float32), ""
            pixels = Work(photo.image, share > 0).colors
            self._take(to_image(pixels).to(self.image), _as_mask(share > 0).to(self.image), photo)
            self._say(said, photo.message)
        with quietly(self.controls):
            self.controls.picture.value = name_or_path if name_or_path in self.controls.picture.options else ""
            self.controls.path.value = ""

    def feed(self, tuner: Any) -> None:
        """Shows a button that hands the picture and its hole to a ``Tuner``, in the place of the one before."""
        use, stop, progress = self.controls.use, tuner.controls.stop, tuner.controls.progress
        use.layout.display = None
        self._tuner = tuner

        def tell(_):
            use.description = "Fill this hole" if stop.disabled else f"Filling, {progress.value:.0%} done"

        stop.observe(tell, "disabled")
        progress.observe(tell, "value")

    def _shown(self, answer, *arguments):
        if not self.controls.are_filled:
            self.controls.message.value = ""  # of what was done before
        super()._shown(answer, *arguments)

    def _say(self, *sentences):
        text = html.escape(" ".join(filter(None, sentences)))
        self.controls.message.value = text and f"<span class='refine-note'>{text}</span>"

    def _take(self, image, mask=None, photo=None):
        check_image(image)
        if image.shape[0] != 1:
            raise ValueError(f"image has a batch of {image.shape[0]}; expected one picture to paint on, (1, 3, H, W)")
        if mask is not None:
            check_image_and_mask(image, mask)
        height, width = image.shape[-2:]
        with self._lock:
            slider = self.controls.width
            with quietly(self.controls):
                slider.max = max(min(height, width) // 2, 2)
                slider.value = min(height, width) // 12
            self._smaller = []  # what was extended
            self._show(image.detach(), Painting(height, width, mask), photo)

    def _show(self, image, painting, photo):
        """Shows another picture, whose file is read as ``photo`` where it has one."""
        self.image, self._painting, self._seen = image, painting, None
        pixels, (height, width) = to_pixels(image), image.shape[-2:]
        self._photo = photo or Photo(Image.fromarray(pixels), "the picture", (width, height), {"exif": b""})
        self.canvas.send({"taken": True})  # first: what is painted on the new picture is not to be forgotten
        with self.canvas.hold_sync():
            self.canvas.size, self.canvas.width = [height, width], self.controls.width.value
            self.canvas.picture = to_png(pixels, SHOWN_SIDE_PX)
            self._show_hole()

    def _show_hole(self):
        self.canvas.hole = self._painting.to_png()
        if self._seen:
            self.canvas.send({"detail": self._seen}, buffers=[b"", self._painting.to_png(self._seen)])
        self.controls.undo.disabled = not (self._painting.can_undo or self._smaller)
        self.controls.redo.disabled = not self._painting.can_redo

    def _change(self, what, *arguments):
        with self._lock:
            if what == "undo" and self._smaller and not self._painting.can_undo:
                return self._show(*self._smaller.pop())
            getattr(self._painting, what)(*arguments)
            self._show_hole()

    def _choose_tool(self):
        tool = self.controls.tool.value
        with self.canvas.hold_sync():
            self.canvas.rectangle, self.canvas.erases = tool.endswith("rectangle"), tool.startswith("erase")
            self.canvas.width = self.controls.width.value

    def _widen(self):
        self.controls.width.value = round(self.canvas.width)
        self.canvas.width = self.controls.width.value  # which has limits

    def _choose(self, name_or_path):
        if name_or_path:
            self.load(name_or_path.strip(" \"'"))  # quoted, as some systems copy a path

    def _unfold(self):
        self._fold.layout.display = None if self.controls.unfold.value else "none"

    def _extend(self):
        top, right, bottom, left = extent = as_extent([side.value for side in self.controls.sides])
        if not any(extent):
            raise ValueError("there is nothing to extend by; expected at least one number of pixels above 0")
        photo, border = extended(self._photo, extent), (left, right, top, bottom)
        before = self.image, self._painting, self._photo
        painting = Painting(photo.size[1], photo.size[0], F.pad(self.mask, border, value=1))
        self._show(F.pad(self.image, border, mode="replicate"), painting, photo)
        self._smaller.append(before)
        self._show_hole()
        with quietly(self.controls):
            for side in self.controls.sides:
                side.value = 0
        self._say(FALLS_WITH_DISTANCE)

    def _use(self):
        use, mask = self.controls.use, self.mask
        if self._tuner.does(self.image, mask):
            return
        use.description = "Handing over ..."
        try:
            if not mask.any():
                raise ValueError("the hole is empty; expected at least one stroke")
            self._tuner.fill(self.image, mask, holds_truth=bool(self.controls.picture.value))
        finally:
            if self._tuner.controls.stop.disabled:
                use.description = "Fill this hole"

    def _from_page(self, _, message, buffers):
        if "points" in message:
            self._shown(self._draw, message)
            self.canvas.send({"painted": message.get("id")})  # the page takes away what it has drawn, whatever came of it
        elif message.get("change") in ("undo", "redo"):
            self._shown(self._change, message["change"])
        elif "view" in message:
            super()._shown(self._look, message)
        elif "file" in message:
            self._shown(self._receive, message, bytes(buffers[0]))
            self.canvas.send({"received": message["part"] + 1 == message["parts"]})

    def _draw(self, stroke):
        if stroke["size"] != self.canvas.size:
            return  # of the picture before
        if stroke["rectangle"]:
            self._change("rectangle", stroke["points"][0], stroke["points"][-1], stroke["erases"])
        else:
            self._change("stroke", stroke["points"], stroke["width"], stroke["erases"])

    def _look(self, message):
        """Sends what is seen of the picture with more pixels than all of it was sent with."""
        if message["size"] != self.canvas.size or not message["view"]:
            self._seen = None
            return
        limits = (*self.canvas.size[::-1],) * 2
        left, top, right, bottom = (min(max(round(at), 0), most) for at, most in zip(message["view"], limits, strict=True))
        if left < right and top < bottom:
            self._seen = left, top, right, bottom
            picture = to_png(to_pixels(self.image[..., top:bottom, left:right]), SHOWN_SIDE_PX)
            self.canvas.send({"detail": self._seen}, buffers=[picture, self._painting.to_png(self._seen)])

    def _receive(self, message, part):
        kind, name = message["kind"], message["file"]
        parts = self._parts[kind] = [*(self._parts.get(kind, []) if message["part"] else []), part]
        if sum(map(len, parts)) > LARGEST_FILE_BYTES:
            del self._parts[kind]
            raise ValueError(f"{name} has more than {LARGEST_FILE_BYTES / 2**20:.0f} MB")
        if message["part"] + 1 < message["parts"]:
            return
        file = Sent(b"".join(self._parts.pop(kind)))
        file.name = name
        if kind == "mask" or Path(name).suffix.lower() == ".npy":
            self._take_mask(read_hole(file, self._photo), name)
        elif kind == "dropped" and (hole := self._drawn_in(file)):
            self._take_mask(hole, name, f"{name} is black and white and of the picture's size: it was taken as the hole.")
        else:
            file.seek(0)
            self.load(file)

    def _drawn_in(self, file):
        """The hole in a file that may be a photo or a mask; None unless it is black and white and of the picture's size."""
        try:
            hole = read_hole(file, self._photo)
        except ValueError:
            return None
        is_sharp = (np.abs(hole.share - 0.5) > 0.47).mean() > 0.99
        return hole if is_sharp and 0 < hole.share.mean() < 1 and not hole.message else None

    def _take_mask(self, hole: Hole, name, said=""):
        if not looks_like_a_mask(hole.share):
            raise ValueError(
                f"{name} has many shades, as a photo has; expected a mask: one shade in the hole, another elsewhere"
            )
        self._change("load", _as_mask(hole.share > 0.5))
        empty = f"{name} has no hole: nothing in it is brighter than half." * (not self.mask.any())
        self._say(said, hole.message, empty)


def _as_mask(pixels):
    return from_numpy(pixels)[None, None].float()
