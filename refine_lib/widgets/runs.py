"""Runs of the method beside a page that stays alive: started, watched, stopped, kept. They need no page and no kernel.

A run computes in a thread of its own, so that the page answers, and looks at an event after every iteration, so that it stops.
"""

import json
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from refine_lib import __version__
from refine_lib.photos.pixels import to_pixels
from refine_lib.result import Result, Step
from refine_lib.widgets.controls import Settings
from refine_lib.widgets.parts import Filled

LIBRARY = Path(__file__).parents[1]
THREAD = "refine"  # the name of the threads that compute
MOMENTS = (0, 1, 2, 5, 15)  # numbers of updates of the largest level, after which its picture is kept
N_PICTURES = 12  # the latest runs, which keep their pictures; an earlier one keeps its settings and its losses


@dataclass(eq=False)
class Run:
    """One run, and all that is known of it while it goes on and after.

    Attributes:
        number: counts the runs, from 1.
        settings: its ``Settings``.
        sizes: (H, W) of each level of the window that is computed, smallest first.
        size: (H, W) of the whole picture.
        hole_share: of the whole picture, 0 to 1.
        led_by: what led the smallest levels, where that was not the network's plain fill.
        device: a line that names the device it computes on and the versions.
        state: "waiting" for the run before it to stop, "running", "finished", "stopped" or "failed".
        level: the level that the run is at; 0 is the smallest.
        share_done: how much of the planned work is done, counted in the seconds that were expected of it, 0 to 1.
        losses: the losses of each refined level so far, as in ``Result.losses``.
        pixels: the latest picture in its full size, the first of a batch, (H, W, 3) of uint8, bit for bit the photo outside of
            the hole. Before the run is over, the hole may be enlarged from a smaller level. It is None before the first.
        moments: the picture after ``MOMENTS`` of the largest level's updates, and after the last one, by their number, as
            ``Filled``.
        error: mean absolute difference in the hole between the last picture and what the image holds there, in [0, 1].
        message: a sentence on why nothing was refined, where the run was stopped, or what went wrong.
        details: the traceback of a run that failed for a reason that the library does not foresee.
        result: the ``Result`` of a run that has one, of the window, until the next run starts.
    """

    number: int
    settings: Settings
    sizes: list[tuple[int, int]]
    device: str = ""
    size: tuple[int, int] | None = None
    hole_share: float = 0.0
    led_by: str = ""
    state: str = "waiting"
    level: int = 0
    share_done: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    moments: dict[int, Filled] = field(default_factory=dict, repr=False)
    error: float | None = None
    message: str = ""
    details: str = field(default="", repr=False)
    result: Result | None = field(default=None, repr=False)
    _filled: Filled | None = field(default=None, repr=False)
    _expected: list[float] = field(default_factory=list, repr=False)  # seconds of each level
    _noted: float = field(default=0.0, repr=False)  # its seconds at the last step
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
    def pixels(self) -> np.ndarray | None:
        return self._filled and self._filled.pixels

    @property
    def has_picture(self) -> bool:
        """Whether ``pixels`` is not None: it need not be made for that."""
        return self._filled is not None and self._filled.colors is not None

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end and has not yet."""
        return self._stop.is_set() and not self.is_over

    @property
    def slowness(self) -> float:
        """The seconds that it took so far for each second that was expected; near 1 while little is done."""
        total = sum(self._expected)
        return (self._noted + total / 10) / (self.share_done * total + total / 10) if total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """About what is left; None where nothing was expected, before it computes and when it is over."""
        if self._started is None or self.is_over or not self._expected:
            return None
        left = (1 - self.share_done) * sum(self._expected) * self.slowness
        return max(left - (self.seconds - self._noted), 0.0)

    def stop(self) -> None:
        """Asks the run to end with its present iteration. Returns at once; ``wait`` waits."""
        self._stop.set()

    def forget(self) -> None:
        """Lets go of its pictures. Settings and losses stay."""
        self.result = self._filled = None
        self.moments.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the run's end, or for some seconds at most. Returns whether it is over."""
        return self._over.wait(timeout)

    def to_json(self) -> str:
        """Settings and outcome as text. ``Settings.from_json`` reads the settings, which run again to the same loss."""
        height, width = self.size or self.sizes[-1]
        outcome = ({"led_by": self.led_by} if self.led_by else {}) | dict(
            state=self.state, loss=self.loss, seconds=round(self.seconds, 3)
        )
        made_with = dict(refine_lib=__version__, device=self.device, height=height, width=width)
        return json.dumps(dict(settings=asdict(self.settings), **outcome, made_with=made_with), indent=2) + "\n"

    def _take(self, step: Step):
        """Notes an iteration, a ``Step`` of ``multiscale_inpaint``."""
        work = self._expected or [1.0] * step.n_levels
        at_level = work[step.level] * (step.iteration + 1) / (step.n_iters + 1)  # a level with nothing to match has one step
        self.share_done = (sum(work[: step.level]) + at_level) / sum(work)
        self.level, self._noted = step.level, self.seconds
        if self._filled is not None:
            pixels = to_pixels(step.picture())
            self._filled.take(pixels)
            if step.level == step.n_levels - 1 > 0 and step.iteration in (*MOMENTS, step.n_iters):
                self.moments[step.iteration] = Filled(self._filled.photo, self._filled.window, self._filled.hole)
                self.moments[step.iteration].take(pixels)
        self.losses += [[] for _ in range(step.level - len(self.losses))]
        if step.level and step.iteration == 0:
            self.losses[step.level - 1] = []  # it may begin anew, where memory ran out
        if step.loss is not None:
            self.losses[step.level - 1].append(step.loss)


def told(error: Exception) -> tuple[str, str]:
    """Returns what an error that was caught says, and its traceback.

    What this library raises itself is a sentence for people, which stands alone: without its kind and without a traceback.
    """
    steps = traceback.extract_tb(error.__traceback__)
    is_worded = str(error) and not isinstance(error, AssertionError)
    if (
        is_worded
        and steps
        and Path(steps[-1].filename).is_relative_to(LIBRARY)
        and (steps[-1].line or "").split()[:1] == ["raise"]
    ):
        return str(error), ""
    return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
