"""Answering a page: one thing at a time, and without losing an exception."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ipywidgets import Button, VBox, Widget

from refine_lib.fast.process import release_idle_threads
from refine_lib.widgets.draw import as_html
from refine_lib.widgets.runs import THREAD, told


class Panel(VBox):
    """Controls on a page, and how their clicks and changes are answered.

    JupyterLab answers the page in another thread than the one that runs the cells, and a run has a thread of its own. So
    only who holds the lock draws. An exception that left an answer would be lost. So it is shown as a message.

    Args:
        controls: an object with the controls. Its ``message`` is an ``HTML``. Its ``are_filled`` says that the panel itself
            changes a control, which nobody asked for: such a change is not answered.
        rows: the widgets of the panel from top to bottom.
        lock: held while the page is answered.
    """

    def __init__(self, controls: Any, rows: list[Widget], lock):
        super().__init__(rows)
        self.controls, self._lock = controls, lock

    def _connect(self, answers: Mapping[Any, Callable[[], Any]]) -> None:
        """Has each control's click, or each change of its value, answered by a function."""
        for control, answer in answers.items():
            connect = control.on_click if isinstance(control, Button) else partial(control.observe, names="value")
            connect(lambda _, answer=answer: self._shown(answer))

    def _shown(self, answer: Callable[..., Any], *arguments) -> None:
        """Answers the page, or a run."""
        with self._lock:
            try:
                if not self.controls.are_filled:
                    answer(*arguments)
            except Exception as error:
                self.controls.message.value = as_html(*told(error))
            finally:
                if threading.current_thread().name != THREAD:  # which is still to use its helper threads
                    release_idle_threads()
