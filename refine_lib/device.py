"""Which device to compute on, and a state of torch in which nothing is switched on around the computation."""

import contextlib
import copy
import functools
import inspect
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import _get_current_function_mode, _pop_mode, _push_mode

from refine_lib.checks import in_short

P = ParamSpec("P")
R = TypeVar("R")
AUTOCAST = ("cpu", "cuda", "mps")  # devices whose operations autocast may do in half precision


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function compute the same, whatever its caller has switched on for this thread.

    Autocast, inference mode, another default device and modes that see calls of torch are off while it runs, and on again
    behind it. Whether gradients are kept stays as it is. A tensor that it is given comes to it as a plain ``torch.Tensor``. One
    of inference mode comes as a copy, and so does a network with such weights, for gradients cannot pass them. What is the
    same for all threads, as the default dtype, is not touched.

    Raises:
        TypeError: where a tensor has no numbers in memory, one for each place. The message names the argument.
    """
    names = list(inspect.signature(function).parameters)
    call: Callable[..., R] = function

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with contextlib.ExitStack() as stack:
            for kind in filter(torch.is_autocast_enabled, AUTOCAST):
                stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())  # as it is in that mode
            while _get_current_function_mode():  # where torch keeps the default device, too
                stack.callback(_push_mode, _pop_mode())
            plain = [*map(_plain, args, names), *args[len(names) :]]
            return call(*plain, **{name: _plain(value, name) for name, value in kwargs.items()})

    return run


def _plain(value, name):
    if isinstance(value, nn.Module):
        try:
            state = (*value.parameters(), *value.buffers())
        except RecursionError:
            raise ValueError(f"{name} has layers within layers, more than Python's stack holds") from None
        return copy.deepcopy(value) if any(not is_lazy(t) and t.is_inference() for t in state) else value
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_meta or value.is_nested or value.layout != torch.strided:
        kind = "on the meta device" if value.is_meta else "nested" if value.is_nested else f"of {value.layout}"
        raise TypeError(f"{name} is {kind}; expected a dense tensor, with numbers in memory")
    if not _holds_its_own(type(value)):
        value = value.as_subclass(torch.Tensor)
    return value.clone() if value.is_inference() else value


def _holds_its_own(kind):
    """Whether a kind of tensor keeps its numbers in a way of its own: such a one is what it is in its subclass alone."""
    return getattr(kind, "__torch_dispatch__", None) is not getattr(torch.Tensor, "__torch_dispatch__", None)


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
