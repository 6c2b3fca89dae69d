"""What a run tells and what it leaves: a ``Step`` for each iteration, and the ``Result``."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from tqdm.auto import tqdm

from refine_lib.fast.process import peak_memory
from refine_lib.masks import paste
from refine_lib.pyramid import Level, resize

NOTHING_TO_MATCH = "nothing to match"
SECONDS_BETWEEN_LOSSES = 0.2  # on the bar: on a GPU each is waited for
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"  # for tqdm


@dataclass(frozen=True)
class Step:
    """One iteration of a run, as the callback sees it. ``print(step)`` says it in a line.

    Attributes:
        level: 0 is the smallest, ``n_levels - 1`` the picture's own size.
        n_levels: of the pyramid.
        iteration: updates of z made so far at this level, 0 to ``n_iters``.
        n_iters: updates of z to be made at this level; 0 at the smallest level, and with the paper's loss where there is
            nothing to match. Of a network that fills a hole in many passes both count its passes.
        loss: the loss of the picture as it is, before the next update: mean absolute difference, averaged over those
            pictures of the batch that have a hole to match. None at the smallest level and where there is nothing to match.
            On a GPU to read it is to wait until the iteration is done.
        message: why there is no loss, else empty.
        seconds: that this iteration took. Nobody waits for a GPU, so there it is the time until the iteration was launched.
        peak_memory: the most memory held so far, in bytes (CUDA: tensors; CPU: the process).
    """

    level: int
    n_levels: int
    iteration: int
    n_iters: int
    _loss: float | torch.Tensor | None = field(repr=False)  # a tensor of one number is read when it is asked for
    message: str
    seconds: float
    peak_memory: int
    _pictures: list = field(repr=False, compare=False)  # a function that makes it, or none when the callback is done

    @property
    def loss(self) -> float | None:
        if isinstance(self._loss, torch.Tensor):
            object.__setattr__(self, "_loss", self._loss.item())
        return self._loss  # pyright: ignore[reportReturnType]

    @property
    def in_short(self) -> str:
        """``level 2/3, loss 0.0312``, for a progress bar; ``pass 3/50`` of a network that fills a hole in many passes."""
        if self.level == 0 and self.n_iters:
            return f"pass {self.iteration}/{self.n_iters}"
        return f"level {self.level + 1}/{self.n_levels}" + (f", loss {self.loss:.4f}" if self.loss is not None else "")

    def picture(self) -> torch.Tensor:
        """The picture at this iteration, known pixels pasted: (B, 3, h, w) in the size of the level, without gradient.

        It is there only while the callback runs, so that a run does not hold every picture. Keep what this returns.
        """
        if not self._pictures:
            raise RuntimeError("this Step's picture is gone: call step.picture() in the callback and keep what it returns")
        return self._pictures[0]()

    def __str__(self):
        loss = self.message if self.loss is None else f"loss {self.loss:.4f}"
        where = f"level {self.level + 1} of {self.n_levels}, iteration {self.iteration} of {self.n_iters}"
        return f"{where}: {loss} ({self.seconds:.2f} s, {self.peak_memory / 2**20:.0f} MB)"


@dataclass(frozen=True, repr=False, eq=False)
class InpaintedLevel(Level):
    """A level of the pyramid and its filled picture: ``inpainted`` (B, 3, H, W) in [0, 1]."""

    inpainted: torch.Tensor


@dataclass(eq=False)
class Result:
    """What ``multiscale_inpaint`` gives back. ``print(result)`` says what was done.

    Attributes:
        image: the filled picture, (B, 3, H, W), in the input's dtype and on its device. Pixels outside the hole are the
            input's, bit for bit.
        mask: the input's, (B, 1, H, W), 1 = hole.
        levels: for each level that was finished, smallest first, ``image``, ``mask`` and ``inpainted``.
        steps: every ``Step``, as the callback saw them.
        n_levels: of the pyramid; with a guide, from the guide's level on.
        message: a sentence where nothing was refined, in whole or at a level, or where the run was stopped; else empty.
        speed: what was done to make the run fast, in words.
        note: sentences where memory did not hold the run as it was planned, or may not have, where much is padded, and on what
            the network does without; else empty.
        stopped: whether the callback or the keyboard stopped the run before its end.
        plain: one plain pass at full size, pasted into the input; made when first asked for.
        enlarged: the smallest level's filled picture, enlarged and pasted into the input; made when first asked for.
    """

    image: torch.Tensor
    mask: torch.Tensor
    levels: list[InpaintedLevel]
    steps: list[Step]
    n_levels: int
    message: str = ""
    speed: str = ""
    note: str = ""
    stopped: bool = False
    _make_plain: Callable[[], torch.Tensor] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the plain pass is made, since how it is made stays in this process."""
        return {**vars(self), "plain": self.plain, "_make_plain": None}

    @cached_property
    def plain(self) -> torch.Tensor:
        assert self._make_plain is not None
        return self._make_plain()

    @cached_property
    def enlarged(self) -> torch.Tensor:
        if not self.levels:
            return self.image
        small = self.levels[0].inpainted.to(self.image.device)
        return paste(resize(small, self.image.shape[-2:]), self.image, self.mask)

    @property
    def losses(self) -> list[list[float]]:
        """The losses of each refined level, coarse to fine: ``n_iters + 1`` floats, the last after the final update.

        The list of a level with nothing to match is empty. That of a level that was stopped, or ended early, is short.
        """
        reached = max((step.level for step in self.steps), default=0)
        return [[s.loss for s in self.steps if s.level == level and s.loss is not None] for level in range(1, reached + 1)]

    @property
    def seconds(self) -> float:
        """Of all iterations together."""
        return sum(step.seconds for step in self.steps)

    def __str__(self):
        height, width = self.image.shape[-2:]
        lines = [f"{height} x {width} px, {self.n_levels} level{'s' if self.n_levels != 1 else ''}, {self.seconds:.1f} s"]
        for level, losses in enumerate(self.losses, start=2):
            change = f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses) - 1} updates" if losses else NOTHING_TO_MATCH
            lines.append(f"  level {level}: {change}")
        return "\n".join([*lines, *filter(None, [self.message, self.note])])

    def __repr__(self):
        return f"<Result: {self}>"


def why_nothing_was_refined(
    result: Result, smallest_scale: float, erosion: int, loss: str, guided: bool = False, n_iters: int = 1
) -> str:
    """A sentence on why nothing was refined, or the run was stopped; empty where all went its way."""
    if result.stopped:
        last = result.steps[-1]
        where = f"iteration {last.iteration} of {last.n_iters}" if last.n_iters else "after the one pass there"
        return f"Stopped at level {last.level + 1} of {last.n_levels}, {where}."
    if not result.mask.any():
        return "The mask has no hole (no pixel is 1): the picture comes back as it is."
    if result.n_levels == 1 and guided:
        return (
            "Nothing was refined: no level is larger than the guide, which fills the hole as it is."
            " A smaller guide, or a smaller smallest_scale where the guide was enlarged, would leave levels to refine."
        )
    if result.n_levels == 1:
        return (
            f"Nothing was refined: the short side, {min(result.mask.shape[-2:])} px, is not much larger than smallest_scale,"
            f" {smallest_scale} px, so there is one level and no smaller picture to agree with."
            " A larger picture or a smaller smallest_scale would give more levels."
        )
    if n_iters == 0:  # nothing was to be
        return ""
    thin = [f"{level}" for level, losses in enumerate(result.losses, start=2) if not losses]
    if thin:
        what = "Nothing was refined" if loss == "paper" else "Nothing but the known pixels was matched"
        return (
            f"{what} at level {', '.join(thin)} of {result.n_levels}: eroded by {erosion} px, the hole is empty."
            " A smaller erosion would leave something to match."
        )
    return ""


def work_of(level_sizes: Sequence[Sequence[int]], n_iters: int, n_passes: int = 1) -> list[int]:
    """The pixels that each level's passes go over: ``n_passes`` at the smallest level, ``n_iters + 1`` at each other.

    A pass costs as much as it has pixels, so this tells what share of a run is done.
    """
    smallest, *others = (height * width for height, width in level_sizes)
    return [n_passes * smallest, *((n_iters + 1) * pixels for pixels in others)]


def _pasted(prediction: Any, image, mask):
    prediction = prediction() if callable(prediction) else prediction
    return paste(prediction, image.to(prediction.device), mask.to(prediction.device))


class Recorder:
    """Makes the Steps of a run, shows them to the callback and the progress bar, and keeps what a stopped run returns.

    Args:
        callback, n_iters, progress: as in ``multiscale_inpaint``.
        level_sizes: (H, W) of each level, smallest first.
        level: at which the run is; -1 is before the first.
        n_passes: at the smallest level.
    """

    def __init__(
        self,
        callback: Callable[[Step], Any] | None,
        level_sizes: Sequence[Sequence[int]],
        n_iters: int,
        progress: bool = False,
        level: int = -1,
        n_passes: int = 1,
    ):
        self.callback = callback
        self.level, self.n_levels = level, len(level_sizes)
        self.steps: list[Step] = []
        self.stopped = self.settled = False
        self._latest: Callable[[], torch.Tensor] | None = None  # makes the last picture that was whole
        self._pixels = [height * width for height, width in level_sizes]
        self._work = work_of(level_sizes, n_iters, n_passes)
        self._bar = tqdm(total=sum(self._work), desc="refining" if n_iters else "filling", bar_format=BAR, disable=not progress)
        self._last = time.perf_counter()
        self._shown = 0.0

    def begin_level(self) -> None:
        """Goes on to the next level."""
        self.level += 1

    def step(
        self,
        iteration: int,
        n_iters: int,
        loss: torch.Tensor | None,
        prediction: torch.Tensor | Callable[[], torch.Tensor],
        image: torch.Tensor,
        mask: torch.Tensor,
        message: str = "",
    ) -> None:
        """Records an iteration. The picture is made and pasted, and the loss is read, only when somebody asks."""
        if iteration == 0:  # a level may begin anew, where memory ran out
            self.steps = [step for step in self.steps if step.level < self.level]
            self.settled = False
            self._bar.update(sum(self._work[: self.level]) - self._bar.n)
        message = NOTHING_TO_MATCH if loss is None and not message else message
        self._latest = partial(_pasted, prediction, image, mask)
        now, pictures = time.perf_counter(), [self._latest]
        where = self.level, self.n_levels, iteration, n_iters
        self.steps.append(Step(*where, loss, message, now - self._last, peak_memory(image.device), pictures))
        if now - self._shown > SECONDS_BETWEEN_LOSSES and not self._bar.disable:
            self._bar.set_postfix_str(self.steps[-1].in_short, refresh=False)
            self._shown = now
        self._bar.update(self._pixels[self.level])
        answer = None if self.callback is None else self.callback(self.steps[-1])
        try:
            self.stopped = answer is not None and not answer
        except (RuntimeError, ValueError) as error:
            told = f"callback returned a {type(answer).__name__}, which is neither true nor false"
            raise TypeError(f"{told}; expected None, True or False") from error
        pictures.clear()
        self._last = time.perf_counter()

    def ends_level(self, early_stop: float | None) -> bool:
        """Whether the level ends with the last Step: the run was stopped, or the loss has settled.

        It has settled where it fell by less than the share ``early_stop`` of itself in the last two updates.
        """
        if early_stop is not None and not self.stopped:
            losses = [step.loss for step in self.steps[-3:] if step.level == self.level and step.loss is not None]
            self.settled = len(losses) == 3 and losses[-1] > (1 - early_stop) * losses[0]
        return self.stopped or self.settled

    def finished_level(self) -> bool:
        """Whether the last Step was the last of its level."""
        return self.settled or self.steps[-1].iteration == self.steps[-1].n_iters

    def latest(self) -> torch.Tensor:
        """The last picture that was whole. There is one once there is a Step."""
        assert self._latest is not None
        return self._latest()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind, *_) -> bool:
        """Ends the progress bar. Ctrl-C stops the run, once there is a Step; what it has by then is its result."""
        is_stop = kind is not None and issubclass(kind, KeyboardInterrupt) and bool(self.steps)
        self.stopped |= is_stop
        self._bar.update(0 if self.stopped else self._bar.total - self._bar.n)
        self._bar.close()
        return is_stop
