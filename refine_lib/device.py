"""Which device to compute on, and how much memory a run took there."""

import ctypes
import functools
import os
import re
import sys
import threading
import weakref
from pathlib import Path

import psutil
import torch


def pick_device(device=None):
    """The device to compute on.

    Args:
        device: what you want, for instance ``"cuda:1"``. None takes the environment variable ``REFINE_DEVICE`` where it
            is set, else the first of CUDA, MPS (Apple) and CPU that this machine has.

    Raises:
        ValueError: where the device is not one that torch knows.
        RuntimeError: where this machine does not have it. There is no silent fall back to the CPU.
    """
    asked_by = "device" if device is not None else "the environment variable REFINE_DEVICE"
    asked = device if device is not None else os.environ.get("REFINE_DEVICE") or None
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        asked = torch.device(asked)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{asked_by} is {asked!r}; expected a device such as 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    missing = {
        "cuda": torch.cuda.device_count() <= (asked.index or 0),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(asked.type):
        found = f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA device(s) on this machine"
        raise RuntimeError(f"{asked_by} asks for '{asked}', which is not there: {found}")
    return asked


def describe(device):
    """A line for people: ``CPU, 2 threads, torch 2.13.0`` or ``NVIDIA H100 80GB HBM3 (cuda:0), torch 2.11.0``."""
    device = torch.device(device)
    version = f"torch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device}), {version}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {version}"
    return f"{device}, {version}"


def peak_memory(device):
    """The most memory this process has held so far, in bytes: on CUDA of tensors on the device, else of the process.

    0 where the system cannot tell (a CPU process on Windows).
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    told = _told_peak()
    return told if told > _inherited_peak() else _own_peak()


def _told_peak():
    """The most memory as the system tells it at once; on Linux it may be the parent's, from before the process began."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _own_peak():
    """The same of this process alone, which takes a hundred times as long to ask."""
    status = Path("/proc/self/status")
    peaks = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else []
    return 1024 * int(peaks[0]) if peaks else _told_peak()


@functools.cache
def _inherited_peak():
    """What ``_told_peak`` tells until this process has held as much; 0 where it is of this process already."""
    told = _told_peak()
    return told if told > _own_peak() else 0


def release_idle_threads():
    """Ends the helper threads that torch keeps for the calling thread; they come again when it next computes.

    GNU OpenMP keeps a team of helpers for every thread that has ever computed. While the teams together have more threads
    than there are cores, it puts each to sleep between operations instead of letting it wait awake, and torch on two cores
    takes twice the time. So whoever has done computing for a while and lets another thread do it calls this. Elsewhere
    than on a Linux CPU it does nothing.
    """
    library = _openmp()
    if library is not None:
        library.omp_pause_resource_all(1)  # 1: soft, only idle threads; OpenMP 5.0, section 3.2.44


@functools.cache
def _openmp():
    """The GNU OpenMP that torch brings along, or None."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*"):
        library = ctypes.CDLL(str(path))
        return library if hasattr(library, "omp_pause_resource_all") else None
    return None


def return_free_memory():
    """Gives memory that was freed back to the system, where the C library is glibc, which keeps much of it; else nothing."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def held_memory():
    """What this process holds of the system's memory, in bytes."""
    return psutil.Process().memory_info().rss


# What becomes of freed memory: mallopt's M_MMAP_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, the most frugal first.
FREED_MEMORY = {
    "given back": (65536, 2**19, 2**19),  # but for less than 0.5 MB
    "kept": (0, 2**25, -1),  # however large; in threads other than the main one up to 64 MB
    "kept up to 32 MB": (65536, 2**25, 2**26),  # where glibc goes by itself in a process with large tensors
}
_wishes, _wishes_lock = weakref.WeakKeyDictionary(), threading.Lock()


def wish_for_freed_memory(run, how):
    """What becomes of the memory of freed tensors while a run goes on, where the C library is glibc.

    Kept, memory need not be asked for again and be cleared by the system, which is up to twice as fast; but new tensors do not
    quite fit into the gaps, so that a process holds more than is in use (``memory.SCATTERED``). There is one way for the whole
    process: of the runs that go on the most frugal wish counts, after the last one memory is kept up to 32 MB. What a process
    had set itself cannot be read, and is lost.

    Args:
        run: an object that stands for the run.
        how: of ``FREED_MEMORY``; None when the run is over.

    Returns:
        Whether the run has, or had, a wish that could be granted.
    """
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is None:
        return False
    with _wishes_lock:
        if _wishes.pop(run, how) is None:
            return False
        if how is not None:
            _wishes[run] = how
        chosen = min(_wishes.values(), key=list(FREED_MEMORY).index, default="kept up to 32 MB")
        for name, value in zip((-4, -3, -1), FREED_MEMORY[chosen], strict=True):
            mallopt(name, value)
    return True


@functools.cache
def _c_library():
    return ctypes.CDLL(None) if sys.platform == "linux" else None
