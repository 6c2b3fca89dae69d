"""Two pictures to compare on a page: a line between them that can be moved, and a box that shows a part of them enlarged."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from refine_lib.widgets.draw import cut, to_png

LONGEST_PX = 512  # no picture is shown with a longer side, so none is sent


def text_of(*names: str) -> str:
    """The text of files beside this one. A widget that has a path in place of its text is never freed."""
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)


class Viewer(anywidget.AnyWidget):
    """Shows two pictures of one scene, before and after, which may differ in size: a smaller one is enlarged on the page.

    The page tells where the box has been moved. Everything else goes from here to the page.

    Args:
        lock: a ``threading.RLock``, held by whoever calls a method.
    """

    _esm = text_of("viewer.js", "page.js")
    _css = text_of("widgets.css")
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    before_zoom = traitlets.Bytes().tag(sync=True)
    after_zoom = traitlets.Bytes().tag(sync=True)
    before_name = traitlets.Unicode("before").tag(sync=True)
    after_name = traitlets.Unicode("after").tag(sync=True)
    aspect = traitlets.Float(1.0).tag(sync=True)
    alive = traitlets.Int(0).tag(sync=True)  # counts while a run goes on, else 0
    box = traitlets.List(traitlets.Float(), [0.3, 0.3, 0.4, 0.4]).tag(sync=True)

    def __init__(self, lock):
        super().__init__()
        self._lock = lock  # of all that is drawn in the panel: the page may ask while a run draws
        self._pixels: dict[str, np.ndarray] = {}
        self._size = (1, 1)
        self.on_msg(lambda widget, message, buffers: self._from_page(message))

    def show(
        self,
        full_size: tuple[int, int],
        look_at: tuple[tuple[float, float], float] | None = None,
        **pictures: tuple[str, np.ndarray | None],
    ) -> None:
        """Shows pictures.

        Args:
            full_size: (H, W) of the picture in full, in pixels.
            look_at: where the box goes, as ``look_at`` has it; None leaves it.
            pictures: ``before`` and ``after``. Each has a name and pixels (h, w, 3) of uint8, in this size or a smaller one;
                None leaves what is shown.
        """
        with self.hold_sync():  # one message
            self._size, self.aspect = full_size, full_size[1] / full_size[0]
            self.box = self.box if look_at is None else self._square(*look_at)
            drawn: dict[int, tuple[bytes, bytes]] = {}  # one picture in both places is drawn once
            for place, (name, pixels) in pictures.items():
                if pixels is not None:
                    self._pixels[place] = pixels
                    whole, part = drawn.get(id(pixels)) or (to_png(pixels, LONGEST_PX), self._cut(pixels))
                    drawn[id(pixels)] = whole, part
                    for trait, value in {f"{place}_name": name, place: whole, f"{place}_zoom": part}.items():
                        setattr(self, trait, value)

    def look_at(self, middle: tuple[float, float], side: float) -> None:
        """Moves the box: a square of ``side`` pixels about the point ``middle``, (x, y) in pixels of the full picture.

        Where the picture is less wide or less tall than that, so is the box.
        """
        self._move_to(self._square(middle, side))

    def save(self, name: str, content: bytes) -> None:
        """Has the browser save bytes as a file of this name."""
        self.send({"download": name}, buffers=[content])

    def _square(self, middle, side):
        (height, width), (x, y) = self._size, middle
        wide, tall = min(side, width), min(side, height)
        left, top = float(np.clip(x - wide / 2, 0, width - wide)), float(np.clip(y - tall / 2, 0, height - tall))
        return [left / width, top / height, wide / width, tall / height]

    def _move_to(self, box):
        with self.hold_sync():
            self.box = box
            for place, pixels in self._pixels.items():
                setattr(self, f"{place}_zoom", self._cut(pixels))

    def _cut(self, pixels):
        (height, width), (_, _, wide, tall) = self._size, self.box
        size = tuple(np.clip([round(wide * width), round(tall * height)], 1, LONGEST_PX).tolist())
        return cut(pixels, self.box, size)

    def _from_page(self, message):
        if "box" in message:
            with self._lock:
                self._move_to([float(share) for share in message["box"]])
