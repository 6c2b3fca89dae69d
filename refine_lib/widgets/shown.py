"""Answering a page: one thing at a time, and without losing an exception."""

import functools
import threading
import traceback

from refine_lib.fast.process import release_idle_threads
from refine_lib.widgets.draw import in_words


def shown(method):
    """A method of a panel that answers the page, or a run: alone, and what goes wrong in it is shown in words.

    An exception that left it would be lost. JupyterLab answers the page in another thread than the one that runs the cells,
    and a run has a thread of its own: so the panel has ``_lock``, a ``threading.RLock``. Its ``controls`` have ``message``, an
    ``HTML``, and ``are_filled``, which is true while the panel itself changes a list: that is nobody's wish.
    """

    @functools.wraps(method)
    def answer(self, *arguments):
        with self._lock:
            try:
                return None if self.controls.are_filled else method(self, *arguments)
            except Exception as error:
                self.controls.message.value = in_words(f"{type(error).__name__}: {error}", traceback.format_exc())
            finally:
                if not threading.current_thread().name.startswith(COMPUTES):
                    release_idle_threads()

    return answer


COMPUTES = "refine"  # how the names of the threads begin that are still to use the helpers that torch keeps for them
