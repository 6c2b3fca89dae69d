"""How much memory a refinement takes, measured with the network itself, and how much there is."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from refine_lib.device import return_free_memory
from refine_lib.featuremap import as_leaves

SIDE = 128  # px, of the picture that is measured
WORKING = 8  # tensors of the largest one's size that a backward pass works on, beside those that it finds: measured on the CPU
PICTURES = 200  # bytes a pixel: a run's pictures and masks of all levels in float32, and their gradients
STARTING = 100 * 2**20  # bytes that libraries take when they first compute
SAFETY = 1.2  # for what is not the same at every size


@dataclass(frozen=True)
class Budget:
    """Whether a picture's refinement fits into memory: ``per_pixel`` bytes for each pixel, ``available`` bytes in all."""

    per_pixel: float
    available: float

    def holds(self, height, width):
        return self.needed(height, width) <= self.available

    def needed(self, height, width):
        """Bytes."""
        return STARTING + self.per_pixel * height * width

    def compare(self, height, width):
        """What a picture needs beside what there is, in words."""
        return f"needs about {self.needed(height, width) / 1e9:.1f} GB of memory, and {self.available / 1e9:.1f} GB are there"


def bytes_per_pixel(model):
    """Memory that a refinement takes for each pixel of the picture, beside ``STARTING``.

    The rear runs once on a small picture, and what it keeps for its gradient is counted. To that come z, its gradient and the
    two moments that Adam keeps, what the backward pass works on, and the pictures.

    Args:
        model: a split network.
    """
    state = [*model.parameters(), *model.buffers()] if hasattr(model, "parameters") else []
    like = next((t for t in state if t.is_floating_point()), torch.empty(0))
    image = torch.full((1, 3, SIDE, SIDE), 0.5, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, torch.ones_like(image[:, :1])))
    kept = kept_for_gradient(model, z)
    z_bytes = sum(t.nbytes for t in leaves)
    found = sum(kept) + WORKING * max(kept, default=image.nbytes) + 4 * z_bytes
    return SAFETY * (found / SIDE**2 + PICTURES)


def kept_for_gradient(model, z):
    """Sizes in bytes of what a pass of the rear keeps for its gradient, but for the weights.

    Args:
        model: a split network.
        z: from ``as_leaves``.
    """
    state = [*model.parameters(), *model.buffers()] if hasattr(model, "parameters") else []
    weights = {t.untyped_storage().data_ptr() for t in state}
    kept = {}  # by its place, since tensors may share memory

    def count(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        prediction = model.rear(z)  # held, so that nothing that is kept gives its place to another
    del prediction
    return list(kept.values())


def available_memory(device):
    """Memory in bytes that a computation on a device can still take.

    On CUDA what is free there, and what torch holds there without using it. Elsewhere what the system has left without
    swapping, and no more than the limit of the container leaves where there is one.
    """
    device = torch.device(device)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return_free_memory()
    return int(min(psutil.virtual_memory().available, left_by_container()))


def left_by_container(groups=Path("/proc/self/cgroup"), root=Path("/sys/fs/cgroup")):
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
