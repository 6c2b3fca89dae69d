"""How much memory a refinement takes, measured with the network itself, and how much there is."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refine_lib.fast.process import return_free_memory
from refine_lib.loss import Agreement
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.registry import why_not_split

SIDES_PX = (128, 256)  # of the pictures that are measured
DECODED_PX = 512
NUMBERS_PER_PX_OF_PICTURES = 8  # the pyramid's pictures and masks, and the results
_MEASURED = weakref.WeakKeyDictionary()  # bytes a pixel by network: a folder of photos asks for the same again and again
HELD_PER_BYTE = 1.2  # bytes that a process holds for each byte of its tensors; of runs below 1 GB up to 150 MB more


@dataclass(frozen=True)
class Budget:
    """Whether a picture's refinement fits into memory: ``per_pixel`` bytes for each pixel, ``available`` bytes in all."""

    per_pixel: float
    available: float

    def holds(self, height: int, width: int) -> bool:
        """Whether a picture of this size, in pixels, fits."""
        return self.needed(height, width) <= self.available

    def needed(self, height: int, width: int) -> float:
        """The memory that a picture of this size, in pixels, needs, in bytes."""
        return self.per_pixel * height * width

    def compare(self, height: int, width: int) -> str:
        """What a picture needs beside what there is, in words."""
        return f"needs about {in_words(self.needed(height, width))} of memory, and {in_words(self.available)} are there"


def in_words(n_bytes: float) -> str:
    """``1.5 GB`` or ``340 MB``."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def bytes_per_pixel(model, optimizer: Callable[..., Any], mask: torch.Tensor | None = None) -> float:
    """The most memory that a refinement's tensors hold at a time, for each pixel of the picture.

    Two updates of z are made for two small pictures (for one of a network that needs more than 128 px). Every tensor is
    counted from when it is made to when it is freed. What they take beside is in proportion to the pixels.

    Args:
        model: a split network; or a ``LatentDiffusion``, of which a plain picture is measured.
        optimizer: what moves z, of ``refine_lib.optimizers.OPTIMIZERS``.
        mask: (B, 1, H, W) with a hole, in what place and of what share of the picture it is; of a batch all holes together.
            None stands for all of the picture; then a network is measured once.
    """
    if why_not_split(model):
        return _of_decoder(model.first_stage_model.decoder)
    state = [*model.parameters(), *model.buffers()] if hasattr(model, "parameters") else []
    like = next((t for t in state if t.is_floating_point()), torch.empty(0))
    if mask is None and state:
        measured, key = _MEASURED.setdefault(model, {}), (optimizer, like.dtype, like.device)
        if key not in measured:
            measured[key] = _measured(model, optimizer, like, None)
        return measured[key]
    return _measured(model, optimizer, like, mask)


def _measured(model, optimizer, like, mask):
    least, peaks = getattr(model, "least_px", 1), {0: 0}
    # A network of large pictures is measured once, and what does not grow with the picture counts as if it did.
    small, large = SIDES_PX if least <= SIDES_PX[0] else (0, least)
    for side in filter(None, (small, large)):
        image = torch.full((1, 3, side, side), 0.5, dtype=like.dtype, device=like.device)
        hole = torch.ones_like(image[:, :1])
        if mask is not None:
            hole = F.adaptive_max_pool2d(mask.amax(dim=0, keepdim=True).to(hole), side)
        if hole.all():
            hole[..., :8, :8] = 0  # a network may fail where nothing is known
        with Tensors() as tensors, torch.enable_grad():
            agreement = Agreement(image[..., ::2, ::2], F.max_pool2d(hole, 2), (side, side))
            leaves, z = as_leaves(model.front(image, hole))
            moves = optimizer(leaves, lr=1e-3, n_iters=2)
            for _ in range(2):
                moves.zero_grad()
                losses = agreement(model.rear(z))
                losses.sum().backward()
                moves.step(losses.detach())
        peaks[side] = tensors.peak
    per_px = max(peaks[large] - peaks[small], 0) / (large**2 - small**2)
    return per_px + NUMBERS_PER_PX_OF_PICTURES * like.element_size()


def _of_decoder(decoder):
    """Of a network that makes a picture from noise: its decoder takes the most. Nothing is computed."""
    dtype = next(decoder.parameters()).dtype
    state = {name: torch.empty(t.shape, dtype=dtype, device="meta") for name, t in decoder.named_parameters()}
    latent = torch.empty(1, 3, DECODED_PX // 4, DECODED_PX // 4, dtype=dtype, device="meta")
    with Tensors() as tensors, torch.no_grad():
        functional_call(decoder, state, (latent,))
    return tensors.peak / DECODED_PX**2


class Tensors(TorchDispatchMode):
    """Counts the memory of the tensors that are made while it is on: ``peak``, in bytes, is the most at a time."""

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self._storages = {}  # by their place; a tensor's memory may be that of several tensors

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # or torch loads its compiler, which takes a second, to tell it that it need not look in here

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        output = call(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages_in((args, kwargs))}  # whose views are not made anew
        for storage in _storages_in(output):
            if storage._cdata not in given:
                self._count(storage)
        return output

    def _count(self, storage):
        place, size = storage._cdata, storage.nbytes()
        if place not in self._storages:
            self._storages[place] = weakref.ref(storage, lambda _: self._freed(place, size))
            self.held += size
            self.peak = max(self.peak, self.held)

    def _freed(self, place, size):
        self._storages.pop(place, None)
        self.held -= size


def _storages_in(values):
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
    return [t.untyped_storage() for t in tensors if t.layout == torch.strided]  # weights in oneDNN's order tell nothing


def available_memory(device: torch.device | str) -> int:
    """Memory in bytes that a computation on a device can still take.

    On CUDA it is what is free there, and what torch holds there without using it. Elsewhere it is what the system has left
    without swapping, and no more than a container's limit leaves. The memory that this process has freed is given back first.
    """
    device = torch.device(device)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return_free_memory()
    return int(min(psutil.virtual_memory().available, left_by_container()))


def left_by_container(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Memory in bytes that the control groups of this process leave it; infinity where none has a limit.

    Args:
        groups: lists the groups, a line each: ``number:controllers:path``; version 2 has no controllers.
        root: where they are mounted.
    """
    lines = groups.read_text().splitlines() if groups.is_file() else []
    left = float("inf")
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "":
            names, top = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), root / controllers
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):  # a limit of a group holds for the groups in it
            if folder.is_relative_to(top):
                left = min(left, _left_by_group(folder, *names))
    return left


def _left_by_group(folder, limit, usage, reclaimable):
    """What one control group leaves; pages of files that lie unused are given back when memory is short."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:  # not mounted here, as the groups above a container's own
        return float("inf")
    return float("inf") if most == "max" else max(0, int(most) - used + int(statistics.get(reclaimable, 0)))
