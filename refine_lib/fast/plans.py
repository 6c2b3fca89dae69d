"""How a run is made to fit into memory: ways to compute the same with less of it, of which the first that fits is taken."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from refine_lib.fast.memory import HELD_PER_BYTE, available_memory, bytes_per_pixel, in_words
from refine_lib.fast.speed import checkpointed, dealt_out, is_list_of_layers, sped_up
from refine_lib.networks.probe import device_of

SMALL_PX = 512 * 512  # pictures of at most so many pixels are not measured ...
ROOMY_BYTES_PER_PX = 2**14  # ... where so much memory is there for each pixel (Big-LaMa took some 12,000 bytes at 512 px)
WORTH_ITS_TIME = 0.95  # share of a faster plan's memory that a slower one may take


class ShortOfMemory(UserWarning):
    """Memory may not hold the run, or did not: the message says what was done."""


class NotSpedUp(UserWarning):
    """What was asked of the speed cannot be had with this network: the message says why."""


class Plans:
    """The ways to compute a run, fastest first.

    Each plan takes less memory and more time than the one before: the network as it is sped up; its rear in segments, whose
    insides are computed twice; on a GPU at last the CPU.

    Args:
        model, image, mask, speed: as in ``refine_lib.multiscale_inpaint``.
        optimizer: what moves z, of ``refine_lib.optimizers.OPTIMIZERS``.
        whole: whether the prediction is wanted outside of the hole too.

    Attributes:
        plan: the ``Plan`` that is taken.
        model: the network that computes it.
        device: where the run's tensors are.
        note: sentences where memory may not hold the run, or did not, and where much is padded, and what
            the network says of itself; else empty.
    """

    def __init__(self, model, image: torch.Tensor, mask: torch.Tensor, optimizer, speed: str = "auto", whole: bool = False):
        self.model, self.plan = sped_up(model, speed, whole)
        self.device: torch.device = device_of(model, image.device)
        self._own = self.note = " ".join(filter(None, (getattr(model, "note", ""), _padding_in_words(model, image))))
        if speed == "mixed" and self.plan.precision is None:
            warnings.warn(f"speed is 'mixed', and the network is computed {self.plan}.", NotSpedUp, 4)
        self._optimizer = optimizer
        self._may_change = speed != "exact"
        self._unsegmented = self.model
        self._left: list[int] | None = None  # numbers of segments of the plans that come next; None until one is asked for
        if self._may_change and self.device.type in ("cpu", "cuda") and mask.any():
            self._pick(mask)

    def _pick(self, mask):
        available = available_memory(self.device)
        if mask.numel() <= SMALL_PX and available >= ROOMY_BYTES_PER_PX * mask.numel():
            return
        least = None
        while True:
            needed = HELD_PER_BYTE * mask.numel() * bytes_per_pixel(self.model, self._optimizer, mask)
            if needed <= available:
                return
            if least is None or needed < WORTH_ITS_TIME * least[0]:
                least = needed, self.model, self.plan
            if not self._next():
                needed, self.model, self.plan = least
                self._warn(f"The run needs about {in_words(needed)} of memory, and {in_words(available)} are there.", 6)
                return

    def _next(self):
        """Takes the next plan; False where there is none."""
        if self._left is None:
            self._left = numbers_of_segments(self.model) if self._may_change else []
        if not self._left:
            return False
        n_segments = self._left.pop(0)
        self.model, self.plan = checkpointed(self._unsegmented, n_segments), replace(self.plan, segments=n_segments)
        return True

    def run(self, compute: Callable[..., Any], *tensors: torch.Tensor, **settings) -> Any:
        """``compute(*tensors, model=..., **settings)``; where a GPU's memory runs out, again with the next plan."""
        while True:
            try:
                return compute(*(t.to(self.device) for t in tensors), model=self.model, **settings)
            except torch.OutOfMemoryError:
                if self.device.type == "cpu":
                    raise
            # not within the handler, where the error holds on to what was computed
            torch.cuda.empty_cache()
            if not self._next():
                self.device = torch.device("cpu")
                self.model, self.plan = _on_the_cpu(self.model), replace(self.plan, moved_to=self.device)
            self._warn(f"The GPU's memory did not hold the run as it was planned; computed instead: {self.plan}.", 5)

    def _warn(self, note, stacklevel):
        self.note = f"{note} {self._own}".strip()
        warnings.warn(note, ShortOfMemory, stacklevel=stacklevel)


def numbers_of_segments(model) -> list[int]:
    """In how many segments the rear may be computed: few hold much each, many have many ends to keep."""
    if not is_list_of_layers(model):
        return []
    n_layers = len(dealt_out(model))
    counts = [min(n, n_layers) for n in (2, round(1.5 * n_layers**0.5))]
    return [n for n in dict.fromkeys(counts) if n > 1]


def _padding_in_words(model, image):
    """A sentence where padding to a multiple of over 64 px makes a picture larger by more than a tenth; else empty."""
    size, multiple = image.shape[-2:], getattr(model, "multiple", 1)
    padded = [side + -side % multiple for side in size]
    if multiple <= 64 or padded[0] * padded[1] <= 1.1 * size[0] * size[1]:
        return ""
    given, taken = (f"{height} x {width} px" for height, width in (size, padded))
    return f"The network takes multiples of {multiple} px: {given} are padded to {taken}."


def _on_the_cpu(model):
    """A copy of a network on the CPU, made without another one on the GPU."""
    copies = {id(t): torch.nn.Parameter(t.cpu(), t.requires_grad) for t in model.parameters()}
    copies |= {id(t): t.cpu() for t in model.buffers()}
    return copy.deepcopy(model, copies)
