"""What a run tells and what it leaves: a ``Step`` for each iteration, and the ``Result``."""

import time
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from tqdm.auto import tqdm

from refine_lib.fast.process import peak_memory
from refine_lib.masks import paste
from refine_lib.pyramid import Level, resize

NOTHING_TO_MATCH = "nothing to match"
SHOW_EVERY = 0.2  # s, between losses on the bar: on a GPU each is waited for
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"  # for tqdm


@dataclass(frozen=True)
class Step:
    """One iteration of a run, as the callback sees it. ``print(step)`` says it in a line.

    Attributes:
        level: 0 is the smallest, ``n_levels - 1`` the picture's own size.
        n_levels: of the pyramid.
        iteration: updates of z made so far at this level, 0 to ``n_iters``.
        n_iters: updates of z to be made at this level; 0 at the smallest level, and with the paper's loss where there is
            nothing to match.
        loss: the loss of the picture as it is, before the next update: mean absolute difference, averaged over those
            pictures of the batch that have a hole to match. None at the smallest level and where there is nothing to match.
            On a GPU to read it is to wait until the iteration is done.
        message: why there is no loss, else empty.
        seconds: that this iteration took; on a GPU, where nobody waits for it, that it took to be launched.
        peak_memory: the most memory held so far, in bytes (CUDA: tensors; CPU: the process).
    """

    level: int
    n_levels: int
    iteration: int
    n_iters: int
    _loss: object = field(repr=False)  # a number, or a tensor of one, which is read when it is asked for; None for no loss
    message: str
    seconds: float
    peak_memory: int
    _pictures: list = field(repr=False, compare=False)  # a function that makes it, or none when the callback is done

    @property
    def loss(self):
        if isinstance(self._loss, torch.Tensor):
            object.__setattr__(self, "_loss", self._loss.item())
        return self._loss

    @property
    def in_short(self):
        """``level 2/3, loss 0.0312``, for a progress bar."""
        return f"level {self.level + 1}/{self.n_levels}" + (f", loss {self.loss:.4f}" if self.loss is not None else "")

    def picture(self):
        """The picture at this iteration, known pixels pasted: (B, 3, h, w) in the size of the level, without gradient.

        Only while the callback runs, so that a run does not hold every picture: call it there and keep what it gives.
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
        levels: for each level that was finished, smallest first, ``image``, ``mask`` and ``inpainted``.
        steps: every ``Step``, as the callback saw them.
        message: a sentence where nothing was refined, in whole or at a level, or where the run was stopped; else empty.
        speed: what was done to make the run fast, in words.
        note: a sentence where memory did not hold the run as it was planned, or may not have; else empty.
        stopped: whether the callback or the keyboard stopped the run before its end.
        mask: the input's, (B, 1, H, W), 1 = hole.
        plain: one plain pass at full size, pasted into the input; made when first asked for.
        enlarged: the smallest level's filled picture, enlarged and pasted into the input; made when first asked for.
    """

    image: torch.Tensor
    mask: torch.Tensor
    levels: list
    steps: list
    n_levels: int
    message: str = ""
    speed: str = ""
    note: str = ""
    stopped: bool = False
    _make_plain: object = field(default=None, repr=False)

    @cached_property
    def plain(self):
        return self._make_plain()

    @cached_property
    def enlarged(self):
        if not self.levels:
            return self.image
        small = self.levels[0].inpainted.to(self.image.device)
        return paste(resize(small, self.image.shape[-2:]), self.image, self.mask)

    @property
    def losses(self):
        """The losses of each refined level, coarse to fine: ``n_iters + 1`` floats, the last after the final update.

        The list of a level with nothing to match is empty, that of a level at which the run was stopped is short, so is one
        that ended early.
        """
        reached = max((step.level for step in self.steps), default=0)
        return [[s.loss for s in self.steps if s.level == level and s.loss is not None] for level in range(1, reached + 1)]

    @property
    def seconds(self):
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


def work_of(level_sizes, n_iters):
    """The pixels that each level's passes go over: one pass at the smallest level, ``n_iters + 1`` at each other.

    A pass costs as its pixels, so this tells what share of a run is done.
    """
    smallest, *others = (height * width for height, width in level_sizes)
    return [smallest, *((n_iters + 1) * pixels for pixels in others)]


class Recorder:
    """Makes the Steps of a run, shows them to the callback and the progress bar, and keeps what a stopped run returns."""

    def __init__(self, callback=None, level_sizes=((1, 1), (2, 2)), n_iters=15, progress=False):
        self.callback = callback
        self.level, self.n_levels = len(level_sizes) - 1, len(level_sizes)
        self.steps = []
        self._latest = None  # makes the last picture that was whole
        self.stopped = self.settled = False
        self._pixels = [height * width for height, width in level_sizes]
        self._work = work_of(level_sizes, n_iters)  # what passes cost, so the bar tells the time left
        self._bar = tqdm(total=sum(self._work), desc="refining", bar_format=BAR, disable=not progress)
        self._last = time.perf_counter()
        self._shown = 0.0

    def step(self, iteration, n_iters, loss, prediction, image, mask, message=""):
        """Records an iteration. The picture is pasted, and the loss, a tensor, is read, only when somebody asks.

        Returns:
            Whether the run goes on.
        """
        if iteration == 0:  # a level may begin anew, where memory ran out
            self.steps = [step for step in self.steps if step.level < self.level]
            self.settled = False
            self._bar.update(sum(self._work[: self.level]) - self._bar.n)
        message = NOTHING_TO_MATCH if loss is None and not message else message
        self._latest = partial(paste, prediction, *(t.to(prediction.device) for t in (image, mask)))
        now = time.perf_counter()
        where = self.level, self.n_levels, iteration, n_iters
        pictures = [self._latest]
        self.steps.append(Step(*where, loss, message, now - self._last, peak_memory(image.device), pictures))
        if now - self._shown > SHOW_EVERY and not self._bar.disable:
            self._show()
            self._shown = now
        self._bar.update(self._pixels[self.level])
        answer = None if self.callback is None else self.callback(self.steps[-1])
        self.stopped = answer is not None and not answer
        pictures.clear()
        self._last = time.perf_counter()
        return not self.stopped

    def settles(self, least_fall):
        """Whether the loss fell by less than a share of itself in the last two updates; the level then ends."""
        losses = [step.loss for step in self.steps[-3:] if step.level == self.level and step.loss is not None]
        self.settled = len(losses) == 3 and not losses[-1] <= (1 - least_fall) * losses[0]
        return self.settled

    def finished_level(self):
        """Whether the last Step was the last of its level."""
        return self.settled or self.steps[-1].iteration == self.steps[-1].n_iters

    def latest(self):
        """The last picture that was whole; None where there is none yet."""
        return None if self._latest is None else self._latest()

    def _show(self):
        self._bar.set_postfix_str(self.steps[-1].in_short, refresh=False)

    def close(self):
        """Ends the progress bar."""
        self._bar.update(0 if self.stopped else self._bar.total - self._bar.n)
        self._bar.close()
