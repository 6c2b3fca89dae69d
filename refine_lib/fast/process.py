"""What this process holds of the machine's memory and threads, and how it gives them back."""

import ctypes
import functools
import re
import sys
import threading
import weakref
from pathlib import Path

import psutil
import torch


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
