"""Two pictures to compare on a page: a line between them that can be moved, and a box that shows a part of them enlarged."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from refine_lib.widgets.draw import cut, to_png

HERE = Path(__file__).parent
LONGEST = 512  # px: the longest side that a picture is shown at, so none larger is sent


class Viewer(anywidget.AnyWidget):
    """Shows two pictures of one scene, before and after, which may differ in size: a smaller one is enlarged on the page.

    The page tells where the box has been moved; all else goes from here to the page.

    Args:
        lock: a ``threading.RLock``, held by whoever calls a method.
    """

    _esm = HERE / "viewer.js"
    _css = HERE / "widgets.css"
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    before_zoom = traitlets.Bytes().tag(sync=True)
    after_zoom = traitlets.Bytes().tag(sync=True)
    before_name = traitlets.Unicode("before").tag(sync=True)
    after_name = traitlets.Unicode("after").tag(sync=True)
    aspect = traitlets.Float(1.0).tag(sync=True)
    box = traitlets.List(traitlets.Float(), [0.3, 0.3, 0.4, 0.4]).tag(sync=True)

    def __init__(self, lock):
        super().__init__()
        self._lock = lock  # of all that is drawn in the panel: the page may ask while a run draws
        self._pixels = {}
        self._size = (1, 1)
        self.on_msg(lambda widget, message, buffers: self._from_page(message))

    def show(self, full_size, **pictures):
        """Shows pictures.

        Args:
            full_size: (H, W) of the picture in full, in pixels.
            before, after: its name, and (h, w, 3) of uint8 in this size or a smaller one; None leaves what is shown.
        """
        with self.hold_sync():  # one message
            self._size, self.aspect = full_size, full_size[1] / full_size[0]
            pictures = {place: named for place, named in pictures.items() if named[1] is not None}
            for place, (name, pixels) in pictures.items():
                self._pixels[place] = pixels
                setattr(self, f"{place}_name", name)
                setattr(self, place, to_png(pixels, LONGEST))
            self._zoom(pictures)

    def look_at(self, middle, side):
        """Moves the box: a square of ``side`` pixels about the point ``middle``, (x, y) in pixels of the full picture."""
        height, width = self._size
        side = min(side, height, width)
        left, top = (
            float(np.clip(at - side / 2, 0, length - side)) for at, length in zip(middle, (width, height), strict=True)
        )
        with self.hold_sync():
            self.box = [left / width, top / height, side / width, side / height]
            self._zoom(self._pixels)

    def save(self, name, content):
        """Has the browser save bytes as a file of this name."""
        self.send({"download": name}, buffers=[content])

    def _zoom(self, names):
        height, width = self._size
        size = tuple(
            min(max(round(share * side), 1), LONGEST) for share, side in zip(self.box[2:], (width, height), strict=True)
        )
        for name in names:
            setattr(self, f"{name}_zoom", cut(self._pixels[name], self.box, size))

    def _from_page(self, message):
        if "box" in message:
            with self._lock:
                self.box = [float(share) for share in message["box"]]
                self._zoom(self._pixels)
