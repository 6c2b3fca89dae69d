"""What this process holds of the machine's memory and threads, and how it gives them back."""

import ctypes
import functools
import re
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device | str) -> int:
    """The most memory that this process has held so far, in bytes: on CUDA of tensors on the device, else of the process.

    0 where the system cannot tell (a CPU process on Windows).
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.is_file():  # Linux, whose getrusage may tell the peak of the parent process
        peak = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        return 1024 * int(peak[1]) if peak else 0
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release_idle_threads() -> None:
    """Ends the helper threads that torch keeps for the calling thread; they come again when it next computes.

    GNU OpenMP keeps a team of helpers for every thread that has ever computed. While the teams together have more threads
    than there are cores, it puts each helper to sleep between operations. On two cores torch then takes twice the time. So a
    thread calls this when it has computed for a while and leaves the computing to another thread. It does nothing except on
    a Linux CPU.
    """
    library = _openmp()
    if library is not None:
        library.omp_pause_resource_all(1)  # 1: soft, only idle threads; OpenMP 5.0, section 3.2.44


@functools.cache
def _openmp():
    """The GNU OpenMP that torch brings along, or None."""
    for path in (Path(str(torch.__file__)).parent / "lib").glob("libgomp*.so*"):
        library = ctypes.CDLL(str(path))
        return library if hasattr(library, "omp_pause_resource_all") else None
    return None


def return_free_memory() -> None:
    """Gives memory that was freed back to the system. It does nothing where the C library is not glibc.

    glibc keeps freed memory that lies between memory in use: some 200 MB after mini-lama's run at 1024 px.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
