"""Answering a page: one thing at a time, and without losing an exception."""

import base64
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data
from ipywidgets import Button, VBox, Widget

from refine_lib.fast.process import release_idle_threads
from refine_lib.widgets import draw
from refine_lib.widgets.runs import THREAD, told

# The open panels by what made them: a cell, and where there is none a line of code. With each, in which run of the cell.
_MADE: dict[Any, list[tuple[Any, weakref.ref]]] = {}


class Panel(VBox):
    """Controls on a page, and how their clicks and changes are answered.

    JupyterLab answers the page in another thread than the one that runs the cells, and a run has a thread of its own. So
    only who holds the lock draws. An exception that left an answer would be lost. So it is shown as a message.

    A cell that is run again makes a panel in the place of its earlier one, which is closed: ipywidgets would keep it, with all
    its pictures, until the kernel ends. Without a kernel a line of code stands for the cell.

    Args:
        controls: an object with the controls. Its ``message`` is an ``HTML``. Its ``are_filled`` says that the panel itself
            changes a control, which nobody asked for: such a change is not answered.
        rows: the widgets of the panel from top to bottom.
        lock: held while the page is answered.
    """

    def __init__(self, controls: Any, rows: list[Widget], lock):
        super().__init__(rows)
        self.controls, self._lock, self._failure = controls, lock, ""
        replace_earlier(self)

    controls: Any
    large: tuple[str, ...] = ()  # attributes that ``close`` lets go of

    def _repr_mimebundle_(self, **kwargs):
        return (super()._repr_mimebundle_(**kwargs) or {}) | self.still()

    def _still(self) -> np.ndarray | None:
        """The pixels of a still picture of the panel, (H, W, 3) of uint8, or None."""
        return None

    def still(self) -> dict[str, str]:
        """A still picture to be kept with the panel, by its kind. It is seen where no kernel runs: on GitHub, in an export.

        JupyterLab would show an error in its place, in a notebook that it trusts. So it is told apart from the panel what to
        show there, and sees nothing of that as long as there is the panel.
        """
        with self._lock:
            pixels = None if self.is_closed else self._still()
        if pixels is None:
            return {}
        jpeg = base64.b64encode(draw.still(pixels, "A still picture. Run the notebook to have the panel.")).decode()
        if get_ipython() is not None:
            publish_display_data({"text/html": draw.instead_of_an_error(jpeg, f"refine-still-{self.model_id[:8]}")})
        return {"image/jpeg": jpeg}

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return "controls" in vars(self) and self.controls.message.comm is None

    def close(self) -> None:
        """Takes the panel off the page, with every widget in it: one that stayed would name others that are gone."""
        for widget in [*_all_in(self)]:
            if widget is not self:
                widget.unobserve_all()
                widget.close()
        super().close()
        if "controls" in vars(self):  # a notebook's Out keeps the panel itself: nothing that is large may hang on it
            self.children, self.controls = (), SimpleNamespace(message=self.controls.message, are_filled=True)
        for name in self.large:
            vars(self).pop(name, None)

    def _connect(self, answers: Mapping[Any, Callable[[], Any]]) -> None:
        """Has each control's click, or each change of its value, answered by a function."""
        for control, answer in answers.items():
            connect = control.on_click if isinstance(control, Button) else partial(control.observe, names="value")
            connect(lambda _, answer=answer: self._shown(answer))

    def _shown(self, answer: Callable[..., Any], *arguments) -> None:
        """Answers the page, or a run."""
        message = self.controls.message
        with self._lock:
            try:
                if not self.controls.are_filled:
                    if message.value == self._failure and threading.current_thread().name != THREAD:
                        message.value = self._failure = ""  # of an answer before this one
                    answer(*arguments)
            except Exception as error:
                message.value = self._failure = draw.as_html(*told(error))
            finally:
                if threading.current_thread().name != THREAD:  # which is still to use its helper threads
                    release_idle_threads()


def replace_earlier(panel: Any) -> None:
    """Closes the panels of the same kind that the same cell made when it was run before."""
    place, now = _place()
    made = _MADE.setdefault((type(panel), place), [])
    for earlier in [panel() for run, panel in made if now is None or run != now]:
        if earlier is not None:
            earlier.close()
    made[:] = [*((run, panel) for run, panel in made if now is not None and run == now), (now, weakref.ref(panel))]


def _place() -> tuple[Any, Any]:
    """What makes a panel now, and in which of its runs: the cell of a notebook, or a line of code and None."""
    shell: Any = get_ipython()
    if shell is not None:
        cell = getattr(shell, "get_parent", dict)().get("metadata", {}).get("cellId")
        if cell is not None:
            return cell, shell.execution_count
    frame: Any = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("refine_lib."):
        frame = frame.f_back
    code = frame.f_code.co_filename  # of a cell that is run again without an id: the same while it has the same text
    return (code, frame.f_lineno), None if shell is None else shell.execution_count


def _all_in(widget: Widget, seen: set | None = None) -> Iterator[Widget]:
    """A widget and all that it holds: children, layouts, styles."""
    seen = set() if seen is None else seen
    if id(widget) not in seen:
        seen.add(id(widget))
        yield widget
        for name in widget.keys:
            value = getattr(widget, name)
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, Widget):
                    yield from _all_in(part, seen)
