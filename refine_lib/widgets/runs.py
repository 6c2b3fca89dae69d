"""Runs of the method beside a page that stays alive: started, watched, stopped, kept. They need no page and no kernel.

A run computes in a thread of its own, so that the page answers, and looks at an event after every iteration, so that it stops.
"""

import atexit
import dis
import json
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refine_lib import __version__
from refine_lib.device import describe
from refine_lib.fast.process import release_idle_threads, return_free_memory
from refine_lib.fast.speed import sped_up
from refine_lib.metrics import hole_l1
from refine_lib.networks.probe import device_of
from refine_lib.networks.split import SplitNetwork
from refine_lib.photos.pixels import to_pixels
from refine_lib.pyramid import downscale, level_sizes
from refine_lib.refine import NothingToRefine, multiscale_inpaint, predict_and_refine
from refine_lib.result import Result, Step, work_of
from refine_lib.widgets.controls import Settings

# The panel shows a run's message itself. Warnings that code outside the panel causes are not touched.
warnings.filterwarnings("ignore", category=NothingToRefine, module=r"refine_lib\.widgets\.")

THREAD = "refine"  # the name of the threads that compute
N_PICTURES = 12  # the latest runs, which keep their pictures; an earlier one keeps its settings and its losses


@dataclass(eq=False)
class Run:
    """One run, and all that is known of it while it goes on and after.

    Attributes:
        number: counts the runs, from 1.
        settings: its ``Settings``.
        sizes: (H, W) of each level, smallest first.
        device: a line that names the device it computes on and the versions.
        state: "waiting" for the run before it to stop, "running", "finished", "stopped" or "failed".
        level: the level that the run is at; 0 is the smallest.
        share_done: how much of the planned work is done, counted in the pixels that the passes go over, 0 to 1.
        losses: the losses of each refined level so far, as in ``Result.losses``.
        pixels: the latest picture, the first of a batch, (h, w, 3) of uint8. It has the size of its level, and the full size
            when the run is over. It is None before the first.
        error: mean absolute difference in the hole between the last picture and what the image holds there, in [0, 1].
        message: a sentence on why nothing was refined, where the run was stopped, or what went wrong.
        details: the traceback of a run that failed for a reason that the library does not foresee.
        result: the ``Result`` of a run that has one, until the next run starts.
    """

    number: int
    settings: Settings
    sizes: list[tuple[int, int]]
    device: str = ""
    state: str = "waiting"
    level: int = 0
    share_done: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    pixels: np.ndarray | None = field(default=None, repr=False)
    error: float | None = None
    message: str = ""
    details: str = field(default="", repr=False)
    result: Result | None = field(default=None, repr=False)
    _started: float | None = field(default=None, repr=False)
    _ended: float | None = field(default=None, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether it has finished, was stopped or has failed."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def loss(self) -> float | None:
        """The last loss of the last level that has one, or None."""
        return next((losses[-1] for losses in reversed(self.losses) if losses), None)

    @property
    def seconds(self) -> float:
        """What it has taken; the number stands still when the run is over."""
        return 0.0 if self._started is None else (self._ended or time.perf_counter()) - self._started

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far; None before the first iteration of a refined level and when the run is over."""
        known = self.level > 0 and not self.is_over
        return self.seconds * (1 - self.share_done) / self.share_done if known else None

    @property
    def seconds_per_pixel(self) -> float | None:
        """What a pass took for each pixel; None where the largest level was not reached, whose pace counts."""
        work = sum(work_of(self.sizes, self.settings.n_iters))
        return self.seconds / (self.share_done * work) if 0 < self.level == len(self.sizes) - 1 else None

    def stop(self) -> None:
        """Asks the run to end with its present iteration. Returns at once; ``wait`` waits."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the run's end, or for some seconds at most. Returns whether it is over."""
        return self._over.wait(timeout)

    def to_json(self) -> str:
        """Settings and outcome as text. ``Settings.from_json`` reads the settings, which run again to the same loss."""
        height, width = self.sizes[-1]
        outcome = dict(state=self.state, loss=self.loss, seconds=round(self.seconds, 3))
        made_with = dict(refine_lib=__version__, device=self.device, height=height, width=width)
        return json.dumps(dict(settings=asdict(self.settings), **outcome, made_with=made_with), indent=2) + "\n"

    def _take(self, step: Step):
        """Notes an iteration, a ``Step`` of ``multiscale_inpaint``."""
        work = work_of(self.sizes, self.settings.n_iters)
        at_level = work[step.level] * (step.iteration + 1) / (step.n_iters + 1)  # a level with nothing to match has one step
        self.share_done = (sum(work[: step.level]) + at_level) / sum(work)
        self.level, self.pixels = step.level, to_pixels(step.picture())
        self.losses += [[] for _ in range(step.level - len(self.losses))]
        if step.level and step.iteration == 0:
            self.losses[step.level - 1] = []  # it may begin anew, where memory ran out
        if step.loss is not None:
            self.losses[step.level - 1].append(step.loss)


class Runner:
    """Runs the method on one picture, one run at a time, in a thread beside the page's; a new run stops the one before.

    Before the first run it measures the pace and makes the plain pass. Each job has a thread, which waits for the one before.

    Args:
        image, mask, model: as in ``multiscale_inpaint``.
        on_change: called without arguments in the thread that computes: when the runner is prepared, when a run begins,
            after each iteration, and when a run is over.
        after: a ``Runner`` of another picture. It is stopped, and nothing is computed before it has ended.

    Attributes:
        device: a line that names the device it computes on and the versions.
        pace: seconds that an iteration takes for a pixel, as measured before the first run; None until then.
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
    ):
        self.image, self.mask, self.model, self._on_change = image, mask, model, on_change
        self.device = describe(device_of(model, image.device))
        self.pace: float | None = None
        self.runs: list[Run] = []
        self.plain: np.ndarray | None = None
        self.plain_error: float | None = None
        self.message, self.details = "", ""
        RUNNERS.add(self)
        if after is not None:
            after.stop()
        self._do(self._prepare, after and after._thread)

    @property
    def latest(self) -> Run | None:
        """The latest run, if there is one."""
        return self.runs[-1] if self.runs else None

    def start(self, settings: Settings) -> Run:
        """Starts a run and returns it at once. What goes wrong is told by the run: ``state``, ``message``, ``details``."""
        self.stop()
        run = Run(len(self.runs) + 1, settings, self._sizes(settings), self.device)
        self.runs.append(run)
        for earlier in self.runs[:-N_PICTURES]:
            earlier.pixels = None
        release_idle_threads()  # the caller's, which would be in the way
        self._do(lambda: self._compute(run), self._thread)
        return run

    def stop(self) -> None:
        """Asks the latest run, if there is one, to end with its present iteration. Returns at once."""
        for run in self.runs[-1:]:
            run.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until nothing is computed, or for some seconds at most. Returns whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def seconds_for(self, settings: Settings) -> float | None:
        """Returns about how long a run will take: by the pace of the latest run, or of a few iterations on a small part."""
        pace = next((run.seconds_per_pixel for run in reversed(self.runs) if run.is_over and run.seconds_per_pixel), self.pace)
        return None if pace is None else pace * sum(work_of(self._sizes(settings), settings.n_iters))

    def _sizes(self, settings):
        height, width = self.image.shape[-2:]
        return level_sizes(height, width, settings.smallest_scale)

    def _do(self, job, before):
        """Does a job in a thread of its own, when the thread before it has ended."""

        def do():
            try:
                if before is not None:
                    before.join()
                job()
            except Exception:
                traceback.print_exc()  # a run tells by itself what goes wrong in it, so this is a fault in here
            if self._thread is threading.current_thread():
                return_free_memory()

        self._thread = threading.Thread(target=do, name=THREAD, daemon=True)
        self._thread.start()

    def _prepare(self):
        try:
            self.pace = measure_pace(self.image, self.model)
            self._on_change()
            plain = multiscale_inpaint(self.image, self.mask, self.model, max(self.image.shape[-2:]), 0, progress=False).image
            self.plain_error, self.plain = self._error_of(plain), to_pixels(plain)
        except Exception as error:
            self.message, self.details = told(error)
        self._on_change()

    def _error_of(self, inpainted):
        return hole_l1(inpainted, self.image, self.mask) if self.mask.any() else None

    def _compute(self, run):
        for earlier in self.runs[: run.number - 1]:
            earlier.result = None  # it holds the pictures of all levels: one run's are enough
        run._started, state = time.perf_counter(), "failed"

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
            settings = asdict(run.settings)
            run.result = multiscale_inpaint(self.image, self.mask, self.model, **settings, callback=take, progress=False)
            run.message, run.pixels = run.result.message, to_pixels(run.result.image)
            run.error = self._error_of(run.result.image)
            state = "stopped" if run.result.stopped else "finished"
        except Exception as error:
            run.message, run.details = told(error)
            if run.pixels is not None:  # so far, in the full size; not by torch, which may lack memory
                so_far = Image.fromarray(run.pixels).resize(
                    (self.image.shape[-1], self.image.shape[-2]), Image.Resampling.BILINEAR
                )
                run.pixels = np.where(to_pixels(self.mask)[..., None] > 0, np.asarray(so_far), to_pixels(self.image))
        finally:
            run._ended, run.state = time.perf_counter(), state
            try:
                self._on_change()
            finally:
                run._over.set()


RUNNERS: weakref.WeakSet[Runner] = weakref.WeakSet()


@atexit.register
def _stop_all():
    """Stops every run when the process ends. Otherwise torch would abort the process."""
    for runner in list(RUNNERS):
        runner.stop()
        runner.wait()


def measure_pace(image: Tensor, model: SplitNetwork) -> float:
    """Returns the seconds that an iteration takes for a pixel, measured on a corner of the picture of at most 128 px a side."""
    side = min(128, *image.shape[-2:])
    part = image[:, :, :side, :side].to(device_of(model, image.device))
    hole, steps = torch.ones_like(part[:, :1]), []
    hole[..., : side // 4] = 0
    predict_and_refine(part, hole, downscale(part), sped_up(model)[0], n_iters=4, erosion=0, callback=steps.append)
    return min(step.seconds for step in steps[1:-1]) / side**2  # the first one warms up, the last has no gradient


def told(error: Exception) -> tuple[str, str]:
    """Returns what an error that was caught says, and its traceback.

    What this library raises itself is a sentence for people, which stands alone: without its kind and without a traceback.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    frame, is_worded = trace and trace.tb_frame, str(error) and not isinstance(error, AssertionError)
    if trace and frame and is_worded and frame.f_globals.get("__name__", "").startswith("refine_lib."):
        if frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]:  # the word raise, and no int("x")
            return str(error), ""
    return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
