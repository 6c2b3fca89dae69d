"""What a run tells and what it leaves: a ``Step`` for each iteration, and the ``Result``."""

import time
from dataclasses import dataclass, field
from functools import cached_property

import torch
from tqdm.auto import tqdm

from refine_lib.device import peak_memory
from refine_lib.masks import paste
from refine_lib.pyramid import Level, resize

NOTHING_TO_MATCH = "nothing to match"
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
        message: why there is no loss, else empty.
        seconds: that this iteration took.
        peak_memory: the most memory held so far, in bytes (CUDA: tensors; CPU: the process).
    """

    level: int
    n_levels: int
    iteration: int
    n_iters: int
    loss: float | None
    message: str
    seconds: float
    peak_memory: int
    _pictures: list = field(repr=False, compare=False)  # one, or none when the callback is done

    def picture(self):
        """The picture at this iteration, known pixels pasted: (B, 3, h, w) in the size of the level, without gradient.

        Only while the callback runs, so that a run does not hold every picture: call it there and keep what it gives.
        """
        if not self._pictures:
            raise RuntimeError("this Step's picture is gone: call step.picture() in the callback and keep what it returns")
        return self._pictures[0]

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

        The list of a level with nothing to match is empty, that of a level at which the run was stopped is short.
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
        return "\n".join(lines + [self.message] * bool(self.message))

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
        self.latest = None  # the last picture that was whole
        self.stopped = False
        self._pixels = [height * width for height, width in level_sizes]
        total = sum(work_of(level_sizes, n_iters))  # what a pass costs, so the bar tells the time left
        self._bar = tqdm(total=total, desc="refining", bar_format=BAR, disable=not progress)
        self._last = time.perf_counter()

    def step(self, iteration, n_iters, loss, picture, message="", device="cpu"):
        """Records an iteration and its picture. Returns whether the run goes on."""
        now = time.perf_counter()
        pictures = [picture]
        step = Step(
            self.level, self.n_levels, iteration, n_iters, loss, message, now - self._last, peak_memory(device), pictures
        )
        self.steps.append(step)
        self.latest = picture
        where = f"level {self.level + 1}/{self.n_levels}"
        self._bar.set_postfix_str(where if loss is None else f"{where}, loss {loss:.4f}")
        self._bar.update(self._pixels[self.level])
        answer = None if self.callback is None else self.callback(step)
        self.stopped = answer is not None and not answer
        pictures.clear()
        self._last = time.perf_counter()
        return not self.stopped

    def finished_level(self):
        """Whether the last Step was the last of its level."""
        return self.steps[-1].iteration == self.steps[-1].n_iters

    def close(self):
        """Ends the progress bar."""
        self._bar.update(0 if self.stopped else self._bar.total - self._bar.n)
        self._bar.close()
