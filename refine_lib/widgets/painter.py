"""A hole to paint on a picture: ``MaskPainter``."""

import io
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anywidget
import traitlets
from ipywidgets import HTML, Button, Dropdown, HBox, IntSlider, Text, ToggleButtons
from torch import Tensor

from refine_lib.checks import check_image, check_image_and_mask
from refine_lib.photos.pixels import BUILT_IN, load_mask, load_photo, to_pixels
from refine_lib.scenes import random_scenes
from refine_lib.widgets.controls import ROW, quietly
from refine_lib.widgets.draw import to_png
from refine_lib.widgets.painting import SHOWN_SIDE_PX, Painting
from refine_lib.widgets.panel import Panel
from refine_lib.widgets.viewer import text_of

LARGEST_FILE_BYTES = 200 * 2**20
TOOLS = ("paint", "erase", "rectangle", "erase a rectangle")
SCENES: dict[Any, int] = {f"drawn scene {seed}": seed for seed in range(6)}


class Canvas(anywidget.AnyWidget):
    """What is painted on. The page sends the points of a stroke, in pixels of the picture, and files in parts."""

    _esm = text_of("painter.js")
    _css = text_of("widgets.css")
    picture = traitlets.Bytes().tag(sync=True)
    hole = traitlets.Bytes().tag(sync=True)
    size = traitlets.List(traitlets.Int(), [1, 1]).tag(sync=True)  # (H, W) of the picture in full
    width = traitlets.Float(20.0).tag(sync=True)  # of the brush, in pixels of the picture
    rectangle = traitlets.Bool(False).tag(sync=True)
    erases = traitlets.Bool(False).tag(sync=True)
    largest_file = traitlets.Int(LARGEST_FILE_BYTES).tag(sync=True)


class MaskPainter(Panel):
    """A picture on a page, and a hole that is painted on it with mouse, pen or finger.

    A stroke is painted at the picture's own size; what the page is sent has at most 1024 px a side and one bit a pixel.

    Args:
        image: (1, 3, H, W) in [0, 1].
        mask: the hole to begin with, (1, 1, H, W), 1 = hole; None begins without.

    Attributes:
        image: the picture, as above; another one after a photo has been opened.
        mask: the hole as painted, (1, 1, H, W), 1 = hole, of the image's dtype and on its device. It can be set.

    Raises:
        TypeError, ValueError: where an argument is not as above.
    """

    image: Tensor
    large = ("image", "_painting")

    def __init__(self, image: Tensor, mask: Tensor | None = None):
        self.canvas, self._parts = Canvas(), {}
        controls = SimpleNamespace(
            picture=Dropdown(options=["", *SCENES, *BUILT_IN], description="picture"),
            path=Text(placeholder="or the path of a photo, of any size", continuous_update=False, layout={"width": "320px"}),
            tool=ToggleButtons(options=TOOLS, style={"button_width": "auto"}, layout={"width": "auto"}),
            width=IntSlider(20, min=1, max=200, description="brush, px", continuous_update=False),
            undo=Button(description="Undo", icon="undo"),
            clear=Button(description="Clear", icon="trash"),
            invert=Button(description="Invert", icon="adjust"),
            use=Button(description="Fill this hole", icon="arrow-down", button_style="primary", layout={"display": "none"}),
            message=HTML().add_class("refine-problem"),
            are_filled=False,
        )
        changes = (controls.undo, controls.clear, controls.invert, controls.use)
        rows = ((controls.picture, controls.path), (controls.tool, controls.width), changes)
        picture, brush, below = (HBox(row, layout=ROW) for row in rows)
        super().__init__(controls, [picture, brush, self.canvas, below, controls.message], threading.RLock())
        self.add_class("refine-mask-painter")
        self._take(image, mask)
        self.canvas.on_msg(self._from_page)
        self._connect({controls.tool: self._choose_tool, controls.width: self._choose_tool, controls.use: self._use})
        self._connect(
            {chosen: lambda chosen=chosen: self._choose(chosen.value) for chosen in (controls.picture, controls.path)}
        )
        self._connect({getattr(controls, what): lambda what=what: self._change(what) for what in ("undo", "clear", "invert")})

    def __repr__(self):
        if self.is_closed:
            return "MaskPainter(closed)"
        height, width = self.image.shape[-2:]
        return f"MaskPainter({height} x {width} px, {self.mask.mean().item():.1%} hole)"

    @property
    def mask(self) -> Tensor:
        return self._painting.mask.to(self.image)

    @mask.setter
    def mask(self, mask: Tensor) -> None:
        check_image_and_mask(self.image, mask)
        self._change("load", mask)

    def load(self, name_or_path: str | Path | io.BytesIO) -> None:
        """Takes another picture, ``"drawn scene 0"`` or what ``load_photo`` takes; its hole is empty, its dtype as before.

        Raises:
            FileNotFoundError, ValueError: as ``load_photo``.
        """
        drawn = name_or_path in SCENES
        self._take((random_scenes(256, seed=SCENES[name_or_path]) if drawn else load_photo(name_or_path)).to(self.image))
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

    def _take(self, image, mask=None):
        check_image(image)
        if image.shape[0] != 1:
            raise ValueError(f"image has a batch of {image.shape[0]}; expected one picture to paint on, (1, 3, H, W)")
        if mask is not None:
            check_image_and_mask(image, mask)
        height, width = image.shape[-2:]
        with self._lock:
            self.image, self._painting = image.detach(), Painting(height, width)
            if mask is not None:
                self._painting.load(mask)
            slider = self.controls.width
            slider.max = max(min(height, width) // 2, 2)
            slider.value = min(height, width) // 12
            with self.canvas.hold_sync():
                self.canvas.size, self.canvas.width = [height, width], slider.value
                self.canvas.picture = to_png(to_pixels(image), SHOWN_SIDE_PX)
                self.canvas.hole = self._painting.to_png()

    def _change(self, what, *arguments):
        with self._lock:
            getattr(self._painting, what)(*arguments)
            self.canvas.hole = self._painting.to_png()

    def _choose_tool(self):
        tool = self.controls.tool.value
        with self.canvas.hold_sync():
            self.canvas.rectangle, self.canvas.erases = tool.endswith("rectangle"), tool.startswith("erase")
            self.canvas.width = self.controls.width.value

    def _choose(self, name_or_path):
        if name_or_path:
            self.controls.message.value = ""
            self.load(name_or_path.strip())

    def _use(self):
        use = self.controls.use
        self.controls.message.value, use.description = "", "Handing over ..."
        try:
            if not (mask := self.mask).any():
                raise ValueError("the hole is empty; expected at least one stroke")
            self._tuner.fill(self.image, mask, holds_truth=bool(self.controls.picture.value))
        finally:
            if self._tuner.controls.stop.disabled:
                use.description = "Fill this hole"

    def _from_page(self, _, message, buffers):
        if "points" in message:
            self._shown(self._draw, message)
            self.canvas.send({"painted": True})  # the page takes away what it has drawn itself, whatever came of it
        elif "file" in message:
            self._shown(self._receive, message, bytes(buffers[0]))

    def _draw(self, stroke):
        if stroke["size"] != self.canvas.size:
            return  # of the picture before
        if stroke["rectangle"]:
            self._change("rectangle", stroke["points"][0], stroke["points"][-1], stroke["erases"])
        else:
            self._change("stroke", stroke["points"], stroke["width"], stroke["erases"])

    def _receive(self, message, part):
        kind = message["kind"]
        parts = self._parts[kind] = [*(self._parts.get(kind, []) if message["part"] else []), part]
        if sum(map(len, parts)) > LARGEST_FILE_BYTES:
            del self._parts[kind]
            raise ValueError(f"{message['file']} has more than {LARGEST_FILE_BYTES / 2**20:.0f} MB")
        if message["part"] + 1 < message["parts"]:
            return
        file = io.BytesIO(b"".join(self._parts.pop(kind)))
        self.controls.message.value = ""
        try:
            if kind == "photo":
                self.load(file)
            else:
                self._change("load", load_mask(file))
        except ValueError as error:
            raise ValueError(f"{message['file']}: {error}") from error
