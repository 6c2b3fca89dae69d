"""Which device to compute on."""

import os

import torch

from refine_lib.checks import in_short


def pick_device(device: str | torch.device | None = None) -> torch.device:
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
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{asked_by} is {in_short(asked)}; expected a device such as 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from error
    missing = {
        "cuda": torch.cuda.device_count() <= (asked.index or 0),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(asked.type):
        found = f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA device(s) on this machine"
        raise RuntimeError(f"{asked_by} asks for '{asked}', which is not there: {found}")
    return asked


def describe(device: str | torch.device) -> str:
    """A line for people: ``CPU, 2 threads, torch 2.13.0`` or ``NVIDIA H100 80GB HBM3 (cuda:0), torch 2.11.0``."""
    device = torch.device(device)
    version = f"torch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device}), {version}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {version}"
    return f"{device}, {version}"
