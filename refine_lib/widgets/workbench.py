"""Painter and panel beside each other: ``Workbench``."""

import math
from typing import Any

from ipywidgets import VBox
from torch import Tensor

from refine_lib.networks.split import SplitNetwork
from refine_lib.widgets.painter import MaskPainter
from refine_lib.widgets.panel import replace_earlier
from refine_lib.widgets.tuner import Tuner


class Workbench(VBox):
    """A hole to paint and its result beside each other, in one column where the page is narrow; the settings are below.

    Args:
        image, model: as in ``Tuner``; of one picture.
        mask: the hole to begin with, (1, 1, H, W), 1 = hole.
        options: as in ``Tuner``: ``show_error``, and what the settings stand at.

    Attributes:
        painter: the ``MaskPainter``.
        tuner: the ``Tuner``.

    Raises:
        TypeError, ValueError: where an argument is not as above.
    """

    def __init__(self, image: Tensor, mask: Tensor, model: SplitNetwork, **options: Any):
        self.painter, self.tuner = MaskPainter(image, mask), Tuner(image, mask, model, **options)
        self.painter.feed(self.tuner)
        parts: Any = self.tuner
        parts.children = (parts.children[1], parts.children[0], *parts.children[2:])  # the result beside the painter
        self.tuner.controls.zoom.value = math.inf  # as much of it as the painter shows
        super().__init__([self.painter, self.tuner])
        self.add_class("refine-workbench")
        replace_earlier(self)

    def __repr__(self):
        return f"Workbench({self.painter}, {self.tuner})"

    def _repr_mimebundle_(self, **kwargs):
        return (super()._repr_mimebundle_(**kwargs) or {}) | self.tuner.still()

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.tuner.is_closed

    def close(self) -> None:
        """Closes both, and frees their memory."""
        if "tuner" in vars(self):  # ipywidgets closes what was not even made whole
            self.painter.close()
            self.tuner.close()
        super().close()
