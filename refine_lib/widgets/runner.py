"""What computes runs beside a page: ``Runner``."""

import atexit
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refine_lib.device import describe
from refine_lib.fast.memory import Budget
from refine_lib.fast.plans import SMALL_PX
from refine_lib.fast.process import release_idle_threads, return_free_memory
from refine_lib.metrics import hole_l1
from refine_lib.networks.probe import device_of
from refine_lib.networks.split import SplitNetwork
from refine_lib.photos.pixels import to_pixels
from refine_lib.photos.windows import Window
from refine_lib.refine import NothingToRefine, multiscale_inpaint
from refine_lib.widgets.controls import Settings
from refine_lib.widgets.leads import Lead, name_of, settings_for, sizes_for
from refine_lib.widgets.pace import Pace, measure_pace
from refine_lib.widgets.parts import Filled, budget_for, window_for
from refine_lib.widgets.runs import N_PICTURES, THREAD, Run, told

# The panel shows a run's message itself. Warnings that code outside the panel causes are not touched.
warnings.filterwarnings("ignore", category=NothingToRefine, module=r"refine_lib\.widgets\.")


class Runner:
    """Runs the method on one picture, one run at a time, in a thread beside the page's; a new run stops the one before.

    A run computes the window around the hole, where ``window_for`` says so. Before the first run the pace is measured and the
    plain pass made; behind it, where the run is not to wait. Each job has a thread, which waits for the one before.

    Args:
        image, mask, model: as in ``multiscale_inpaint``. None of them may change meanwhile.
        on_change: called without arguments in the thread that computes: when the runner is prepared, when a run begins,
            after each iteration, and when a run is over.
        after: a ``Runner``. It is stopped, and nothing is computed before it has ended. Where it has the same picture, with
            whatever hole, its runs are kept.
        prepares: whether to measure the pace and to make the plain pass at once.

    Attributes:
        device: a line that names the device it computes on and the versions.
        photo: the picture, the first of a batch, (H, W, 3) of uint8.
        hole: (H, W), bool, of all pictures of a batch together.
        pace: a ``Pace``, as measured before the first run; None until then.
        runs: every run so far, the latest last. The ``N_PICTURES`` latest have their picture.
        plain: the picture of one plain pass, (H, W, 3) of uint8; None until it is made.
        plain_error: the mean absolute difference between it and the image in the hole, in [0, 1], or None.
        message, details: what went wrong before any run, as in ``Run``. They are empty where nothing did.
    """

    def __init__(
        self,
        image: Tensor,
        mask: Tensor,
        model: SplitNetwork,
        on_change: Callable = lambda: None,
        after: "Runner | None" = None,
        prepares: bool = True,
        settings: Settings | None = None,
    ):
        self.image, self.mask, self.model, self._on_change = image, mask, model, on_change
        self.device = describe(device_of(model, image.device))
        keeps = after is not None and after.shows(image)
        self.runs: list[Run] = after.runs if after is not None and keeps else []
        self.photo = after.photo if after is not None and keeps else to_pixels(image)
        self.hole = (mask[:, 0] > 0).any(0).numpy(force=True)
        self.pace: Pace | None = after.pace if after is not None and after.model is model else None
        self.plain_error: float | None = None
        self.message, self.details = "", ""
        self._is_closed, self._plain, self._lead = False, None, None
        self._windows: dict[Any, tuple[Window, Budget]] = {}
        RUNNERS.add(self)
        self._thread = threading.Thread() if after is None else after._thread
        if after is not None:
            after.stop()
        if prepares:
            self._do(lambda: self._prepare(settings or Settings()))

    @property
    def latest(self) -> Run | None:
        """The latest run, if there is one."""
        return self.runs[-1] if self.runs else None

    @property
    def plain(self) -> np.ndarray | None:
        return self._plain and self._plain.pixels

    @property
    def has_plain(self) -> bool:
        """Whether ``plain`` is not None: it need not be made for that."""
        return self._plain is not None

    def shows(self, image: Tensor) -> bool:
        """Whether an image is this one."""
        alike = (image.shape, image.dtype, image.device) == (self.image.shape, self.image.dtype, self.image.device)
        return alike and torch.equal(image, self.image)

    def does(self, settings: Settings, lead: Lead = None) -> bool:
        """Whether a run like that goes on, and was not asked to stop."""
        run = self.latest
        if run is None or run.is_over or run.is_stopping:
            return False
        is_led_alike = self._lead is lead or isinstance(lead, str) and self._lead == lead
        return is_led_alike and run.settings == settings

    def start(self, settings: Settings, lead: Lead = None) -> Run:
        """Starts a run and returns it at once. What goes wrong is told by the run: ``state``, ``message``, ``details``."""
        self.stop()
        window, _ = self.window(settings)
        sizes, share = sizes_for(lead, window, settings.smallest_scale), float(self.hole.mean())
        run = Run(len(self.runs) + 1, settings, sizes, self.device, self.photo.shape[:2], share, name_of(lead))
        run._filled, self._lead = self._unfilled(window), lead
        self.runs.append(run)
        for earlier in self.runs[:-N_PICTURES]:
            earlier.forget()
        release_idle_threads()  # the caller's, which would be in the way
        self._do(lambda: self._compute(run, window, lead))
        return run

    def stop(self) -> None:
        """Asks the latest run, if there is one, to end with its present iteration. Returns at once."""
        for run in self.runs[-1:]:
            run.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until nothing is computed, or for some seconds at most. Returns whether that is so."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stops, and lets go of the pictures and the network when nothing is computed. Settings and losses stay."""
        self._leave()
        if self._thread.is_alive():
            self._do(self._forget)
        else:  # ipywidgets closes at the end of the process, too, when no thread begins any more
            self._forget()

    def end(self) -> None:
        """Stops, and waits until nothing is computed. Nothing more is shown."""
        self._leave()
        self.wait()

    def _leave(self):
        self.stop()
        self._is_closed, self._on_change = True, lambda: None

    def window(self, settings: Settings) -> tuple[Window, Budget]:
        """The part of the picture that a run with these settings computes, and the memory for it."""
        key = settings.smallest_scale, settings.n_iters, settings.loss, settings.optimizer
        if key not in self._windows:
            budget = budget_for(self.model, settings, self.hole.size)
            self._windows[key] = window_for(self.hole, settings, budget), budget
        return self._windows[key]

    def part(self, tensor: Tensor, window: Window) -> Tensor:
        """A window's part of a tensor (B, C, H, W)."""
        return tensor[(..., *window.part)].contiguous()

    def seconds_for(self, settings: Settings, lead: Lead = None) -> float | None:
        """Returns about how long a run will take: by two small runs, and by what the latest long one took beside that."""
        if self.pace is None:
            return None
        slowness = next((run.slowness for run in reversed(self.runs) if run.is_over and run.share_done > 0.5), 1.0)
        return slowness * sum(self._seconds(sizes_for(lead, self.window(settings)[0], settings.smallest_scale), settings))

    def _seconds(self, sizes, settings):
        return self.pace.seconds(sizes, settings.n_iters) if self.pace else []

    def _unfilled(self, window):
        return Filled(self.photo, window, to_pixels(self.part(self.mask, window)) > 0)

    def _do(self, job):
        """Does a job in a thread of its own, when the thread before it has ended."""
        before = self._thread

        def do():
            try:
                if before.ident is not None:
                    before.join()
                job()
            except Exception:
                traceback.print_exc()  # a run tells by itself what goes wrong in it, so this is a fault in here
            if self._thread is threading.current_thread():
                return_free_memory()

        self._thread = threading.Thread(target=do, name=THREAD, daemon=True)
        self._thread.start()

    def _prepare(self, settings):
        """Measures the pace and makes the plain pass, what is not there yet."""
        try:
            window, _ = self.window(settings)
            image, mask = self.part(self.image, window), self.part(self.mask, window)
            if self.pace is None and not self._is_closed:
                self.pace = measure_pace(image, mask, self.model, settings.loss)
                self._on_change()
            if self._plain is None and not self._is_closed:
                made = multiscale_inpaint(image, mask, self.model, max(window.size), 0, progress=False).image
                self.plain_error, plain = _error_of(made, image, mask), self._unfilled(window)
                plain.take(to_pixels(made))
                self._plain = plain
            if hasattr(self.model, "buffers") and not self._is_closed:  # a large picture shall not wait for that
                budget_for(self.model, settings, SMALL_PX + 1)
        except Exception as error:
            self.message, self.details = told(error)
        self._on_change()

    def _compute(self, run, window, lead):
        for earlier in self.runs[: run.number - 1]:
            earlier.result = None  # it holds the pictures of all levels: one run's are enough
        run._expected, run._started, state = self._seconds(run.sizes, run.settings), time.perf_counter(), "failed"

        def take(step):
            run._take(step)
            self._on_change()
            return not run._stop.is_set()

        try:
            if run._stop.is_set():
                state, run.message = "stopped", "Stopped before its first iteration."
                return
            run.state = "running"
            self._on_change()
            settings, image, mask = asdict(run.settings), self.part(self.image, window), self.part(self.mask, window)
            settings |= settings_for(lead, window, image, mask, self.photo, self.hole, run.settings.smallest_scale)
            run.result = multiscale_inpaint(image, mask, self.model, **settings, callback=take, progress=False)
            run.message = run.result.message
            run._filled.take(to_pixels(run.result.image))
            run.error = _error_of(run.result.image, image, mask)
            state = "stopped" if run.result.stopped else "finished"
        except Exception as error:
            run.message, run.details = told(error)
        finally:
            run._ended, run.state = time.perf_counter(), state
            try:
                self._on_change()
            finally:
                run._over.set()
        if run is self.latest and self._plain is None and state == "finished":
            self._prepare(run.settings)

    def _forget(self):
        for run in self.runs:
            run.forget()
        self._plain = None
        del self.image, self.mask, self.model, self.photo, self.hole


def _error_of(inpainted, image, mask):
    return hole_l1(inpainted, image, mask) if mask.any() else None


RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()


@atexit.register
def _stop_all():
    """Stops every run when the process ends. Otherwise torch would abort the process, and a picture be sent by a part of it
    that is gone."""
    for runner in list(RUNNERS):
        runner.end()
