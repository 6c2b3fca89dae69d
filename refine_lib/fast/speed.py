"""Wrappers: each takes a split network and returns one that gives the same answer in less time or less memory.

``sped_up`` applies those that pay. None of them changes the network that is given.
"""

import copy
import functools
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from refine_lib.fast.folding import folded
from refine_lib.fast.fused import FusedBlocks, FusedDecoder
from refine_lib.loss import beside, bounding_box, cropped
from refine_lib.networks.featuremap import Featuremap
from refine_lib.networks.lama import JoinLocalAndGlobal, LamaGenerator
from refine_lib.networks.probe import small_picture
from refine_lib.networks.split import NamedSplitNetwork, SplitNetwork


@dataclass(frozen=True)
class Plan:
    """How a run is computed; ``str(plan)`` says it in words.

    Attributes:
        wrappers: the names, in ``WRAPPERS``, of those that changed the network; none for the network as it is.
        precision: of the convolutions; None is that of the weights.
        segments: in how many the rear is computed twice (``checkpointed``); 0 where it is computed once.
        refused: the names of wrappers that fit this network and were not taken.
        reason: why none was taken, in words; empty where some were, or where none was asked for.
        moved_to: where the run went on when the memory of the network's own device ran out; else None.
        slower: a precision that was asked for and is no faster on this device, so that it was not taken; else None.
    """

    wrappers: tuple[str, ...] = ()
    precision: torch.dtype | None = None
    segments: int = 0
    moved_to: torch.device | None = None
    refused: tuple[str, ...] = ()
    reason: str = ""
    slower: torch.dtype | None = None

    def __str__(self):
        said = list(self.wrappers) or ["as it is"]
        if self.reason:
            said.append("since " + f"with {' and '.join(self.refused)} " * bool(self.refused) + self.reason)
        if self.precision is not None:
            said.append(f"convolutions in {_name_of(self.precision)}")
        if self.slower is not None:
            said.append(f"convolutions in the weights' precision, since those in {_name_of(self.slower)} are no faster here")
        if self.segments:
            said.append(f"rear in segments ({self.segments}), computed twice")
        if self.moved_to is not None:
            said.append(f"on the {self.moved_to.type.upper()}")
        return ", ".join(said)


def _name_of(dtype):
    return str(dtype).removeprefix("torch.")


def _folded_channels_last(model):
    kept = {i: layer for i, layer in enumerate(model.layers) if getattr(layer, "has_thresholds", False)}
    others = [nn.Identity() if i in kept else layer for i, layer in enumerate(model.layers)]
    changed: Any = folded(_with_layers(model, others))
    changed.to(memory_format=torch.channels_last)
    for i, layer in kept.items():  # whose answer rounding would change by more than rounding
        changed.layers[i] = layer
    return changed


# The wrappers that change a picture by rounding alone, by name, in their order. Each is called with the network, the precision
# of convolutions (None: that of the weights), and whether the prediction is wanted outside of the hole too. It returns the
# network that it was given where there is nothing to do.
WRAPPERS: dict[str, Callable[[SplitNetwork, torch.dtype | None, bool], SplitNetwork]] = {
    "batch norms folded, channels last": lambda model, *_: _folded_channels_last(model),
    "blocks fused": lambda model, precision, _: fused(model, precision),
    "decoded around the hole": lambda model, _, whole: model if whole or _join_of(model) is None else around_hole(model),
}
PRECISIONS = {"auto": None, "mixed": torch.bfloat16}  # of convolutions, by speed
_MADE = weakref.WeakKeyDictionary()  # what was made of a network is used again while its weights are the same


def sped_up(model, speed: str = "auto", whole: bool = False) -> tuple[SplitNetwork, Plan]:
    """The network with the wrappers that pay, and the plan that says which.

    Args:
        model: a split network.
        speed: ``"exact"`` for none; ``"auto"`` for ``WRAPPERS``, which change a picture by rounding alone; ``"mixed"`` for
            convolutions in bfloat16 as well, where ``is_faster_in`` says that the processor has units for it.
        whole: whether the prediction is wanted outside of the hole too.

    Returns:
        (split network, ``Plan``). The network comes back as it is where the wrappers do not know it, or where they change what
        it gives for a small picture; the plan then says why. A change of weights through ``.data`` is not noticed.
    """
    if speed == "exact":
        return model, Plan()
    fingerprint = model.fingerprint() if is_list_of_layers(model) else None
    if fingerprint is None:
        return model, Plan(reason="the network is no list of layers")
    if _MADE.get(model, (None,))[0] != fingerprint:
        _MADE[model] = fingerprint, {}
    made = _MADE[model][1]
    if (speed, whole) not in made:
        precision = PRECISIONS[speed]
        pays = precision is None or next(model.parameters()).device.type != "cpu" or is_faster_in(precision)
        faster, plan = _wrapped(model, precision if pays else None, whole)
        made[speed, whole] = faster, plan if pays else replace(plan, slower=precision)
    return made[speed, whole]


def _wrapped(model, precision, whole):
    faster, done = model, []
    for name, wrap in WRAPPERS.items():
        before, faster = faster, wrap(faster, precision, whole)
        done += [name] * (faster is not before)
    if precision is not None:  # last, for the wrappers make networks anew
        faster = in_precision(faster, precision)
    reason = _why_not(model, faster, precision)
    return (model, Plan(refused=tuple(done), reason=reason)) if reason else (faster, Plan(tuple(done), precision))


@torch.no_grad()
def _why_not(model, faster, precision):
    """Why the faster network is not taken: layers may do what nobody expects. Empty where it gives the same small picture."""
    image, mask = small_picture(model, seed=0)
    wanted = model(image, mask) * mask
    tolerance = 1e-3 if image.device.type == "cpu" else 1e-2  # a GPU may compute convolutions in TF32 and products not
    tolerance = tolerance if precision is None else 0.1
    try:
        found = faster(image, mask) * mask
    except (RuntimeError, TypeError, ValueError) as error:
        return f"it fails: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
    off = ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()
    return "" if off <= tolerance else f"another picture came of it, off by {off:.1g}"


@functools.cache
@torch.no_grad()
def is_faster_in(precision: torch.dtype) -> bool:
    """Whether this processor computes a convolution in less time in that precision than in float32: milliseconds, once.

    With units for bfloat16 it took 0.6 of the time, without them twice the time and more, however busy the machine was.
    """
    made: Any = dict(device="cpu", dtype=torch.float32)
    weight, x = torch.zeros(64, 64, 3, 3, **made), torch.zeros(1, 64, 32, 32, **made).to(memory_format=torch.channels_last)
    least = {False: math.inf, True: math.inf}
    for use in 30 * (False, True):  # in turn, each short, and the least of each
        with torch.autocast("cpu", precision, enabled=use):
            started = time.thread_time()  # which does not count what waits for other programs
            F.conv2d(x, weight, padding=1)
            least[use] = min(least[use], time.thread_time() - started)
    return least[True] < least[False]


def is_list_of_layers(model) -> bool:
    """Whether a split network is a list of layers, which the wrappers can change."""
    return isinstance(model, SplitNetwork) and not isinstance(model, NamedSplitNetwork)


def _check_list(model):
    if not is_list_of_layers(model):
        raise TypeError(f"model is a {type(model).__name__}; expected a split network that is a list of layers")


def _with_layers(model, layers, kind=SplitNetwork):
    return kind(nn.Sequential(*layers), model.at, model.hole_value, model.value_range, model.multiple)


def fused(model: SplitNetwork, precision: torch.dtype | None = None) -> SplitNetwork:
    """The network with LaMa's residual blocks behind the cut as ``FusedBlocks``, and with a ``FusedDecoder``.

    The answer is the same but for rounding (float64: 1e-12 of it). Its gradient needs one byte for each number that a ReLU
    gave, and little else.

    Args:
        model: a split network that is a list of layers.
        precision: of the convolutions in them, as in ``FusedBlocks``.

    Returns:
        Another split network, which shares the other layers of the given one; the given one where nothing can be fused.

    Raises:
        TypeError: where the network is not a list of layers.
    """
    _check_list(model)
    given = list(model.layers)
    layers, decoder = given[: model.at], FusedDecoder.begins_at(given, first=model.at)
    for can_be_fused, run in groupby(given[model.at : decoder], FusedBlocks.can_hold):
        found: list[Any] = list(run)
        layers += [FusedBlocks(found, precision)] if can_be_fused else found
    if decoder is not None:
        layers.append(FusedDecoder(given[decoder:], precision))
    is_fused = any(isinstance(layer, FusedBlocks | FusedDecoder) for layer in layers)
    return _with_layers(model, layers) if is_fused else model


def in_precision(model: SplitNetwork, precision: torch.dtype = torch.bfloat16) -> SplitNetwork:
    """The network with its convolutions in half the bits, and all else, Fourier transforms too, in float32.

    The answer is not quite the same: bfloat16 has 8 bits for what float32 has 24.
    """
    _check_list(model)

    class InPrecision(type(model)):
        def front(self, image, mask):
            with torch.autocast(image.device.type, precision):
                z = super().front(image, mask)
            return Featuremap([t.to(image.dtype) for t in z], z.size, z.record, z.box)

        def rear(self, z):
            tensor = z if isinstance(z, torch.Tensor) else z[0]
            with torch.autocast(tensor.device.type, precision):
                return super().rear(z).to(tensor.dtype)

    model = copy.copy(model)
    model.__class__ = InPrecision
    return model


# Pixels before and behind a hole for which the decoder's cells of 8 px are needed. 4 of them are wanted, for the loss sees 3 px
# beyond the hole; the head sees 3 more; and at the far end, where cells are missing, the enlarging goes wrong in the last 7.
BEFORE_PX, BEHIND_PX = 4 + 3, 4 + 3 + 7


def around_hole(model: SplitNetwork) -> SplitNetwork:
    """LaMa with a decoder that works around the hole alone: what is far from it never enters the loss nor the picture.

    The prediction is the same in the hole and 4 px around it; elsewhere it is 0.

    Args:
        model: a split network that is a list of layers, LaMa's, cut before its decoder.

    Returns:
        Another split network, which shares the layers of the given one.
    """
    _check_list(model)
    join = _join_of(model)
    if join is None:
        raise ValueError("model has no decoder of LaMa behind its cut; expected a LamaGenerator, cut before its decoder")
    around: Any = _with_layers(model, model.layers, kind=AroundHole)
    around.join = join
    return around


def _join_of(model):
    """The index of the layer before LaMa's decoder, None where there is none behind the cut."""
    found = [i for i, layer in enumerate(model.layers) if isinstance(layer, JoinLocalAndGlobal)]
    if len(found) != 1 or found[0] < model.at:
        return None
    behind = model.layers[found[0] + 1 :]
    if len(behind) == 1 and isinstance(behind[0], FusedDecoder):
        is_lamas = len(behind[0].enlarging) == 3
    else:
        is_lamas = len(behind) == 3 * 3 + 3 and FusedDecoder.begins_at(behind) == 0
    return found[0] if is_lamas else None


class AroundHole(SplitNetwork):
    """See ``around_hole``; ``join`` is the index of the layer that makes one featuremap, behind which the decoder begins."""

    join: Any

    def front(self, image, mask):
        z = super().front(image, mask)
        cell = LamaGenerator.multiple
        rows, columns = (
            slice(max((part.start - BEFORE_PX) // cell, 0), -(-(part.stop + BEHIND_PX) // cell)) for part in bounding_box(mask)
        )
        z.box = rows, columns
        return z

    def rear(self, z):
        if not isinstance(z, Featuremap) or z.box is None:
            return super().rear(z)
        (rows, columns), cell = z.box, LamaGenerator.multiple
        x = self.layers[self.at : self.join + 1](tuple(z) if len(z) > 1 else z[0])
        sides = beside(rows, columns, x)
        part = self.layers[self.join + 1 :](cropped(x, sides).contiguous(memory_format=torch.channels_last))
        whole = F.pad(part, [cell * n for n in sides])
        return whole if z.size is None and self.value_range == (0, 1) else self._as_picture(whole, z.size)


def checkpointed(model: SplitNetwork, n_segments: int) -> SplitNetwork:
    """The network with its rear in segments, of which only the ends are kept for the gradient; the rest is computed again.

    The answer is the same, bit for bit. What is in segments is run twice in an iteration; memory falls towards that of one of
    them. A decoder that works around the hole, or that is fused, stays as it is: there is nothing in it to be dealt out.

    Args:
        model: a split network that is a list of layers.
        n_segments: 1 or more; ``dealt_out(model)`` are dealt out evenly.

    Returns:
        Another split network, which shares the weights of the given one.

    Raises:
        TypeError: where the network is not a list of layers.
        ValueError: where there are not as many layers.
    """
    _check_list(model)
    layers, (start, stop), parts = list(model.layers), _dealt(model), dealt_out(model)
    if not isinstance(n_segments, int) or not 1 <= n_segments <= len(parts):
        where = " before the decoder" * (stop < len(layers))
        raise ValueError(f"n_segments is {n_segments!r}; expected 1 to {len(parts)}, the layers of the rear{where}")
    ends = [round(i * len(parts) / n_segments) for i in range(n_segments + 1)]
    segments = [Segment(*parts[first:last]) for first, last in zip(ends, ends[1:], strict=False)]
    changed = copy.copy(model)
    changed._modules = {**model._modules, "layers": nn.Sequential(*layers[:start], *segments, *layers[stop:])}
    if isinstance(model, AroundHole):
        changed.join = start + n_segments
    return changed


def dealt_out(model: SplitNetwork) -> list[nn.Module]:
    """The layers behind the cut that ``checkpointed`` puts into segments; fused blocks count as what they are made of."""
    start, stop = _dealt(model)
    layers = list(model.layers)[start:stop]
    return [part for layer in layers for part in (layer.by_block() if isinstance(layer, FusedBlocks) else [layer])]


def _dealt(model):
    """Where the layers that can be dealt out begin and end."""
    ends = [i for i, layer in enumerate(model.layers) if isinstance(layer, FusedDecoder)]
    ends = [model.join] if isinstance(model, AroundHole) else ends
    return model.at, ends[0] if ends else len(model.layers)


class Segment(nn.Sequential):
    """Layers that are computed again when their gradient is asked for, in place of keeping what they computed."""

    def forward(self, input):
        return checkpoint(super().forward, input, use_reentrant=False, preserve_rng_state=False)
