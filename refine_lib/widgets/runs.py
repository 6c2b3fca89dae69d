"""Runs of the method beside a page that stays alive: started, watched, stopped, kept. No widget in here, and no kernel needed.

A run computes in a thread of its own, so that the page answers, and looks at an event after every iteration, so that it stops.
"""

import atexit
import collections
import json
import threading
import time
import traceback
import warnings
import weakref
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
import torch
from PIL import Image

from refine_lib import __version__
from refine_lib.device import describe
from refine_lib.fast.process import release_idle_threads, return_free_memory
from refine_lib.fast.speed import sped_up
from refine_lib.masks import paste
from refine_lib.metrics import hole_l1
from refine_lib.networks.probe import device_of
from refine_lib.photos.pixels import to_pixels
from refine_lib.pyramid import downscale, level_sizes
from refine_lib.refine import NothingToRefine, multiscale_inpaint, predict_and_refine
from refine_lib.result import work_of

# The panel shows a run's message itself. Warnings that code outside the panel causes are not touched.
warnings.filterwarnings("ignore", category=NothingToRefine, module=r"refine_lib\.widgets\.")

N_PICTURES = 12  # runs that keep their picture; of a run before them what it was made with and its losses are kept


@dataclass(frozen=True)
class Settings:
    """What a run is made with, by the names of ``multiscale_inpaint``; the defaults are the paper's."""

    lr: float = 0.002
    n_iters: int = 15
    erosion: int = 15
    smallest_scale: float = 512
    loss: str = "paper"
    optimizer: str = "adam"

    @classmethod
    def from_json(cls, text):
        """The settings in a text that ``Run.to_json`` wrote.

        Raises:
            ValueError: where the text holds something else.
        """
        try:
            found = {"optimizer": "adam"} | json.loads(text)["settings"]  # texts from before there was another lack it
            return cls(**{setting.name: found[setting.name] for setting in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            names = ", ".join(setting.name for setting in fields(cls))
            raise ValueError(f'text is {text[:60]!r}; expected JSON with {names} under "settings"') from error

    def paper(self):
        """The paper's settings, but for ``smallest_scale``: it is the network's training size, so it stays."""
        return replace(type(self)(), smallest_scale=self.smallest_scale)


@dataclass(eq=False)
class Run:
    """One run, and all that is known of it while it goes on and after.

    Attributes:
        number: counts the runs, from 1.
        settings: its ``Settings``.
        sizes: (H, W) of each level, smallest first.
        device: that it computes on, and the versions: a line.
        state: "waiting" for the run before it to stop, "running", "finished", "stopped" or "failed".
        level: that the run is at, 0 is the smallest.
        losses: of each refined level so far, as in ``Result.losses``.
        pixels: the latest picture, the first of a batch, (h, w, 3) of uint8 in the size of its level; of a run that is over
            in the full size. None before the first.
        error: mean absolute difference in the hole between the last picture and what the image holds there, in [0, 1].
        message: in words, what there is to say: why nothing was refined, where the run was stopped, what went wrong.
        details: the traceback of a run that failed.
        result: the ``Result`` of a run that has one, until the next run starts.
    """

    number: int
    settings: Settings
    sizes: list
    device: str = ""
    state: str = "waiting"
    level: int = 0
    losses: list = field(default_factory=list)
    pixels: np.ndarray | None = field(default=None, repr=False)
    error: float | None = None
    message: str = ""
    details: str = field(default="", repr=False)
    result: object = field(default=None, repr=False)
    _started: float | None = field(default=None, repr=False)
    _ended: float | None = field(default=None, repr=False)
    _work_done: int = field(default=0, repr=False)
    _work_planned: int = field(default=0, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_over(self):
        return self.state in ("finished", "stopped", "failed")

    @property
    def loss(self):
        """The last loss of the last level that has one, or None."""
        return next((losses[-1] for losses in reversed(self.losses) if losses), None)

    @property
    def seconds(self):
        """That it has taken; it stands still when the run is over."""
        return 0.0 if self._started is None else (self._ended or time.perf_counter()) - self._started

    @property
    def share_done(self):
        """Of the planned work, counted in pixels gone over: 0 to 1."""
        return 1.0 if self.state == "finished" else self._work_planned / sum(work_of(self.sizes, self.settings.n_iters))

    @property
    def seconds_left(self):
        """At the pace so far; None before the first iteration of a refined level and when the run is over."""
        if self.level == 0 or self.is_over:
            return None
        return self.seconds * (1 - self.share_done) / self.share_done

    @property
    def seconds_per_pixel(self):
        """That a pass took for each of its pixels; None where the largest level, whose pace counts, was not reached."""
        return self.seconds / self._work_done if 0 < self.level == len(self.sizes) - 1 else None

    def stop(self):
        """Asks the run to end with its present iteration. Returns at once; ``wait`` waits."""
        self._stop.set()

    def wait(self, timeout=None):
        """Waits for the run's end, or for some seconds at most. Returns whether it is over."""
        return self._over.wait(timeout)

    def to_json(self):
        """Settings and outcome as text. ``Settings.from_json`` reads the settings, which run again to the same loss."""
        height, width = self.sizes[-1]
        outcome = dict(state=self.state, loss=self.loss, seconds=round(self.seconds, 3))
        made_with = dict(refine_lib=__version__, device=self.device, height=height, width=width)
        return json.dumps(dict(settings=asdict(self.settings), **outcome, made_with=made_with), indent=2) + "\n"

    def _take(self, step):
        """Notes an iteration, a ``Step`` of ``multiscale_inpaint``."""
        work = work_of(self.sizes, self.settings.n_iters)
        pixels = self.sizes[step.level][0] * self.sizes[step.level][1]
        self._work_done += pixels
        # By levels, since one with nothing to match is over sooner than planned.
        at_level = work[step.level] if step.iteration == step.n_iters else (step.iteration + 1) * pixels
        self._work_planned = sum(work[: step.level]) + at_level
        self.level, self.pixels = step.level, to_pixels(step.picture())
        self.losses += [[] for _ in range(step.level - len(self.losses))]
        if step.level and step.iteration == 0:
            self.losses[step.level - 1] = []  # it may begin anew, where memory ran out
        if step.loss is not None:
            self.losses[step.level - 1].append(step.loss)


class Runner:
    """Runs the method on one picture, one run at a time, in a thread beside the page's; a new run stops the one before.

    Before the first run it measures the pace and makes the plain pass. The thread ends when there is nothing more to do.

    Args:
        image, mask, model: as in ``multiscale_inpaint``.
        on_change: called without arguments, in the thread that computes: when the runner is prepared, when a run begins,
            after each iteration, when a run is over.
        after: a ``Runner`` of another picture that is stopped, and waited for before anything is computed.

    Attributes:
        device: that it computes on, and the versions: a line.
        pace: seconds that an iteration takes for a pixel, by a measurement beforehand; None as long as there is none.
        runs: every run so far, the latest last. The ``N_PICTURES`` latest have their picture.
        plain: the picture of one plain pass, (H, W, 3) of uint8, or None as long as it is not made.
        plain_error: its mean absolute difference in the hole to what the image holds there, or None.
        message, details: what went wrong before any run, as in ``Run``; else empty.
    """

    def __init__(self, image, mask, model, on_change=lambda: None, after=None):
        self._inputs, self._on_change = (image, mask, model), on_change
        self.device = describe(device_of(model, image.device))
        self.pace = None
        self.runs = []
        self.plain, self.plain_error = None, None
        self.message, self.details = "", ""
        self._jobs, self._jobs_lock, self._thread = collections.deque(), threading.Lock(), None
        RUNNERS.add(self)
        if after is not None:
            after.stop()
            self._do(after.wait)
        self._do(self._prepare)

    @property
    def latest(self):
        return self.runs[-1] if self.runs else None

    def start(self, settings):
        """Starts a run and returns it at once. What goes wrong is told by the run: ``state``, ``message``, ``details``."""
        self.stop()
        height, width = self._inputs[0].shape[-2:]
        run = Run(len(self.runs) + 1, settings, level_sizes(height, width, settings.smallest_scale), self.device)
        self.runs.append(run)
        for earlier in self.runs[:-N_PICTURES]:
            earlier.pixels = None
        release_idle_threads()  # the caller's, which would be in the way
        self._do(lambda: self._compute(run))
        return run

    def stop(self):
        """Asks the latest run, if there is one, to end with its present iteration. Returns at once."""
        if self.latest is not None:
            self.latest.stop()

    def wait(self, timeout=None):
        """Waits until nothing is computed, or for some seconds at most. Returns whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def seconds_for(self, settings):
        """About how long a run will take: by the pace of the latest run, or of a few iterations on a small part."""
        pace = next((run.seconds_per_pixel for run in reversed(self.runs) if run.is_over and run.seconds_per_pixel), self.pace)
        if pace is None:
            return None
        height, width = self._inputs[0].shape[-2:]
        return pace * sum(work_of(level_sizes(height, width, settings.smallest_scale), settings.n_iters))

    def _do(self, job):
        with self._jobs_lock:
            self._jobs.append(job)
            if len(self._jobs) == 1:
                self._thread = threading.Thread(target=self._do_all, name="refine", daemon=True)
                self._thread.start()

    def _do_all(self):
        while True:
            try:
                self._jobs[0]()  # it stays in the row until it is done: that is what tells ``_do`` that there is a thread
            except Exception:
                traceback.print_exc()  # a run tells by itself what goes wrong in it, so this is a fault in here
            if len(self._jobs) == 1:
                return_free_memory()
            with self._jobs_lock:
                self._jobs.popleft()
                if not self._jobs:
                    return

    def _prepare(self):
        image, mask, model = self._inputs
        try:
            self.pace = measure_pace(image, model)
            self._on_change()
            device = device_of(model, image.device)
            with torch.no_grad():
                plain = paste(model(image.to(device), mask.to(device)).to(image.device), image, mask)
            self.plain_error = hole_l1(plain, image, mask) if mask.any() else None
            self.plain = to_pixels(plain)
        except Exception as error:
            self.message, self.details = f"{type(error).__name__}: {error}", traceback.format_exc()
        self._on_change()

    def _compute(self, run):
        for earlier in self.runs[: run.number - 1]:
            earlier.result = None  # it holds the pictures of all levels: one run's are enough
        run._started, state = time.perf_counter(), "failed"
        image, mask, model = self._inputs

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
            run.result = multiscale_inpaint(image, mask, model, **asdict(run.settings), callback=take, progress=False)
            run.message, run.pixels = run.result.message, to_pixels(run.result.image)
            run.error = hole_l1(run.result.image, image, mask) if mask.any() else None
            state = "stopped" if run.result.stopped else "finished"
        except Exception as error:
            run.message, run.details = f"{type(error).__name__}: {error}", traceback.format_exc()
            if (
                run.pixels is not None
            ):  # what there was before it went wrong, in the full size; not by torch: it may lack memory
                so_far = Image.fromarray(run.pixels).resize(image.shape[:1:-1], Image.Resampling.BILINEAR)
                run.pixels = np.where(to_pixels(mask)[..., None] > 0, np.asarray(so_far), to_pixels(image))
        finally:
            run._ended, run.state = time.perf_counter(), state
            try:
                self._on_change()
            finally:
                run._over.set()


RUNNERS = weakref.WeakSet()


@atexit.register
def _stop_all():
    """Ends what is computed when the process ends: torch would abort it from within."""
    for runner in list(RUNNERS):
        runner.stop()
        runner.wait()


def measure_pace(image, model):
    """Seconds that an iteration takes for a pixel, by a few iterations on a corner of the picture, at most 128 px a side."""
    side = min(128, *image.shape[-2:])
    part = image[:, :, :side, :side].to(device_of(model, image.device))
    hole, steps = torch.ones_like(part[:, :1]), []
    hole[..., : side // 4] = 0
    predict_and_refine(part, hole, downscale(part), sped_up(model)[0], n_iters=4, erosion=0, callback=steps.append)
    return min(step.seconds for step in steps[1:-1]) / side**2  # the first one warms up, the last has no gradient
