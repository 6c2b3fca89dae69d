"""How a run is made to fit into memory: ways to compute the same with less of it, of which the first that fits is taken."""

import copy
import warnings

import torch

from refine_lib.fast.memory import AT_ONCE, SCATTERED, available_memory, bytes_per_pixel, in_words
from refine_lib.fast.process import held_memory, return_free_memory, wish_for_freed_memory
from refine_lib.fast.speed import checkpointed, dealt_out, is_list_of_layers, sped_up
from refine_lib.networks.probe import device_of

SMALL = 512 * 512  # pixels, up to which nobody asks whether they fit ...
ROOMY = 2**14  # ... where this many bytes are there for each (Big-LaMa took some 12,000 at 512 px)
WORTH_ITS_TIME = 0.95  # share of a faster plan's memory that a slower one may take
WORTH_GIVING_BACK = 2**26  # bytes that a run has kept; as many glibc keeps by itself in a process with large tensors


class ShortOfMemory(UserWarning):
    """Memory may not hold the run, or did not: the message says what was done."""


class Plans:
    """The ways to compute a run, fastest first; ``model`` and ``words`` are those of the one that is taken.

    Each plan takes less memory and more time than the one before: the network as it is sped up (on a CPU freed memory is kept);
    freed memory given back at once (on a CPU); the rear in segments whose insides are computed twice; on a GPU at last the CPU.

    Args:
        model, image, mask, speed: as in ``refine_lib.multiscale_inpaint``.
        whole: whether the prediction is wanted outside of the hole too.
    """

    def __init__(self, model, image, mask, speed="auto", whole=False):
        self.model, self.words = sped_up(model, speed, whole)
        self.device = device_of(model, image.device)
        self.note = ""
        self._keeps, self._held = False, held_memory()
        self._left = [] if speed == "exact" else None  # the plans that come next; None until one is asked for
        if speed != "exact" and self.device.type in ("cpu", "cuda") and mask.any():
            try:
                self._pick(mask)
            except BaseException:
                self.close()
                raise

    @staticmethod
    def _ways(model):
        """Other networks that give the same, as pairs (words, function that makes it)."""
        if not is_list_of_layers(model):
            return []
        n_layers = len(dealt_out(model))
        counts = [min(n, n_layers) for n in (2, round(1.5 * n_layers**0.5))]  # few hold much each, many have many ends to keep
        counts = [n for n in dict.fromkeys(counts) if n > 1]
        return [(f"rear in segments ({n}), computed twice", lambda n=n: checkpointed(model, n)) for n in counts]

    def _pick(self, mask):
        batch, _, height, width = mask.shape
        self._keeps = self.device.type == "cpu" and wish_for_freed_memory(self, "kept")
        if mask.numel() <= SMALL and available_memory(self.device, exact=False) >= ROOMY * mask.numel():
            return
        available, least = available_memory(self.device), None
        while True:
            needed = batch * height * width * bytes_per_pixel(self.model, mask)
            if needed * (SCATTERED if self._keeps else AT_ONCE) <= available:
                return
            if self._keeps:
                wish_for_freed_memory(self, "given back")
                return_free_memory()
                self._keeps, self.words = False, f"{self.words}, freed memory given back at once"
            if needed * AT_ONCE <= available:
                return
            if least is None or needed < WORTH_ITS_TIME * least[0]:
                least = needed, self.model, self.words
            if not self._next():
                needed, self.model, self.words = least
                needed = in_words(needed * AT_ONCE)
                self._say(f"The run needs about {needed} of memory, and {in_words(available)} are there.", stacklevel=5)
                return

    def _next(self):
        """Takes the next plan; False where there is none."""
        if self._left is None:
            self._left = self._ways(self.model)
        if not self._left:
            return False
        words, make = self._left.pop(0)
        self.model, self.words = make(), f"{self.words.partition(', rear in')[0]}, {words}"
        return True

    def run(self, compute, *tensors, **settings):
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
                self.model, self.words = _on_the_cpu(self.model), f"{self.words}, on the CPU"
            self._say(f"The GPU's memory did not hold the run as it was planned; computed instead: {self.words}.")

    def _say(self, note, stacklevel=4):
        self.note = note
        warnings.warn(note, ShortOfMemory, stacklevel=stacklevel)

    def close(self):
        """Gives back what memory the run has kept."""
        if wish_for_freed_memory(self, None) and held_memory() - self._held >= WORTH_GIVING_BACK:
            return_free_memory()


def _on_the_cpu(model):
    """A copy of a network on the CPU, made without another one where it is."""
    copies = {id(t): torch.nn.Parameter(t.cpu(), t.requires_grad) for t in model.parameters()}
    copies |= {id(t): t.cpu() for t in model.buffers()}
    return copy.deepcopy(model, copies)
