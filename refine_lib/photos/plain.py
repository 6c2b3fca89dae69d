"""A hole filled by a network's plain prediction, of one pass or of many, each a ``Step``."""

import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from refine_lib import checks
from refine_lib.device import plainly
from refine_lib.fast.memory import HELD_PER_BYTE, Budget, available_memory, bytes_per_pixel
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.fast.speed import PRECISIONS, Plan
from refine_lib.networks.probe import check_model, device_of
from refine_lib.networks.registry import why_not_split
from refine_lib.optimizers import OPTIMIZERS
from refine_lib.result import InpaintedLevel, Recorder, Result, Step, why_nothing_was_refined


@plainly
def plain_inpaint(
    image: torch.Tensor,
    mask: torch.Tensor,
    model: Any,
    callback: Callable[[Step], Any] | None = None,
    progress: bool = True,
    speed: str = "auto",
) -> Result:
    """Fills a hole at the picture's own size by a network's plain prediction. Nothing is refined.

    Each pass of a network that takes many, ``LatentDiffusion``, is a ``Step``; the second one tells how long all of them take.
    Where the callback or the keyboard stops the run, the picture is what the last pass took for the end.

    Args:
        image, mask, callback, progress: as in ``multiscale_inpaint``.
        model: a ``LatentDiffusion``, or a split network.
        speed: ``"mixed"`` lets the UNet of a ``LatentDiffusion`` compute its convolutions in bfloat16. All else is the same.

    Returns:
        A ``Result`` with one level.

    Raises:
        TypeError, ValueError: where an argument is not as above, before any work is done.
        FloatingPointError: where the prediction is not finite.

    Warns:
        ShortOfMemory: where memory may be too small for the run.
    """
    checks.check_image_and_mask(image, mask)
    checks.check_callback(callback)
    checks.check_choice(speed, "speed", checks.SPEEDS)
    if not why_not_split(model):
        check_model(model, image.dtype, default=image.device)
    seen, hole = (t.detach().to(device_of(model, image.device)) for t in (image, mask))
    plan, n, note = Plan(), 1, getattr(model, "note", "")
    passes: Iterable[Callable[[], torch.Tensor]] = [partial(_predicted, model, seen, hole)]
    if why_not_split(model):
        plan, n = Plan(precision=PRECISIONS.get(speed)), model.n_steps
        passes = model.passes(seen, hole, precision=plan.precision)
        note = " ".join((f"A plain picture, in {n} passes from the noise of seed {model.seed}. {note}", *_said(model, hole)))
    recorder = Recorder(callback, [image.shape[-2:]], 0, progress, level=0, n_passes=n)
    started = time.perf_counter()
    with recorder:
        for i, picture in enumerate(passes if mask.any() else (), start=1):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            told = f": {seconds:.2g} s a pass, {seconds * n / 60:.1f} minutes in all" * (i == 2)  # the first one does more
            recorder.step(i, n, None, picture, seen, hole, f"pass {i} of {n}{told}")
            if recorder.stopped:
                break

    filled = recorder.latest().to(image.device) if recorder.steps else image.clone()
    if not filled.isfinite().all():
        raise FloatingPointError("the network's prediction is not finite; are its weights whole?")
    levels = [] if recorder.stopped else [InpaintedLevel(image, mask, filled)]
    result = Result(filled, mask, levels, recorder.steps, 1, "", str(plan), note, recorder.stopped, lambda: filled)
    if recorder.stopped:
        result.message = f"Stopped after {len(recorder.steps)} of {n} passes: the picture is what the last took for the end."
    elif not mask.any():
        result.message = why_nothing_was_refined(result, 0, 0, "paper")
    return result


@torch.no_grad()
def _predicted(model, image, mask):
    return model(image, mask)


def _said(model, mask):
    """Sentences where sides are padded, and where memory may not hold the run."""
    size = mask.shape[-2:]
    if any(side % model.multiple for side in size):
        yield f"Sides are padded to multiples of {model.multiple} px."
    if mask.device.type in ("cpu", "cuda"):
        per_pixel = HELD_PER_BYTE * len(mask) * bytes_per_pixel(model, OPTIMIZERS["adam"])
        budget = Budget(per_pixel, available_memory(mask.device))
        if not budget.holds(*size):
            told = f"The picture of {size[0]} x {size[1]} px {budget.compare(*size)}."
            warnings.warn(told, ShortOfMemory, stacklevel=4)
            yield told
