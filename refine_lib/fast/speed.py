"""Wrappers that take a split network and return one with the same answer, that is faster or needs less memory.

``sped_up`` picks those that pay. None of them changes the network that is given.
"""

import copy
import weakref

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from refine_lib.fast.frozen import factor_and_shift
from refine_lib.fast.fused import FusedBlocks, FusedDecoder
from refine_lib.loss import bounding_box, cropped
from refine_lib.networks.featuremap import Featuremap
from refine_lib.networks.lama import FourierLayer, FourierUnit, JoinLocalAndGlobal, LamaGenerator
from refine_lib.networks.probe import small_picture
from refine_lib.networks.split import NamedSplitNetwork, SplitNetwork

_MADE = weakref.WeakKeyDictionary()  # what was made of a network is used again while its weights are the same


def sped_up(model, speed="auto", whole=False):
    """The network with the wrappers that pay, and a line that says which.

    Args:
        model: a split network.
        speed: ``"exact"`` for none; ``"auto"`` for those that change a picture by rounding alone; ``"mixed"`` for convolutions
            in bfloat16 as well.
        whole: whether the prediction is wanted outside of the hole too.

    Returns:
        (split network, what was done in words). The network as it is where the wrappers change what it gives for a small
        picture, or do not know it. Weights that were changed through ``.data`` are not seen to have changed.
    """
    fingerprint = model.fingerprint() if speed != "exact" and isinstance(model, SplitNetwork) else None
    if fingerprint is None:
        return model, "as it is"
    if _MADE.get(model, (None,))[0] != fingerprint:
        _MADE[model] = fingerprint, {}
    made = _MADE[model][1]
    if (speed, whole) not in made:
        made[speed, whole] = _checked(model, *_made_of(model, torch.bfloat16 if speed == "mixed" else None, whole))
    return made[speed, whole]


def _made_of(model, precision, whole):
    faster, done = folded(fused(model, precision)), ["batch norms folded"]
    n_fused = sum(len(layer.layers) // 2 for layer in faster.layers if isinstance(layer, FusedBlocks))
    done += [f"{n_fused} blocks fused"] * bool(n_fused)
    faster, done = faster.to(memory_format=torch.channels_last), [*done, "channels last"]  # in place: it is a copy already
    if not whole and _join_of(faster) is not None:
        faster, done = around_hole(faster), [*done, "decoded around the hole"]
    if precision is not None:  # last, for the others make networks anew
        faster, done = in_precision(faster, precision), [*done, f"convolutions in {str(precision).removeprefix('torch.')}"]
    return faster, ", ".join(done)


@torch.no_grad()
def _checked(model, faster, done):
    """The faster network; the given one where they differ on a small picture, since layers may do what nobody expects."""
    image, mask = small_picture(model, seed=0)
    wanted = model(image, mask) * mask
    tolerance = 1e-3 if image.device.type == "cpu" else 1e-2  # a GPU may compute convolutions in TF32 and products not
    tolerance = 0.1 if "bfloat16" in done else tolerance
    try:
        found = faster(image, mask) * mask
    except (RuntimeError, TypeError, ValueError):
        return model, "as it is"
    off = (found - wanted).abs().max() / wanted.abs().max().clamp(min=1)
    return (faster, done) if off <= tolerance else (model, "as it is")


def is_list_of_layers(model):
    """Whether a split network is a list of layers, which the wrappers can change."""
    return isinstance(model, SplitNetwork) and not isinstance(model, NamedSplitNetwork)


def _check_list(model):
    if not is_list_of_layers(model):
        raise TypeError(f"model is a {type(model).__name__}; expected a split network that is a list of layers")


def _with_layers(model, layers, kind=SplitNetwork):
    return kind(nn.Sequential(*layers), model.at, model.hole_value, model.value_range, model.multiple)


def folded(model):
    """The network with its batch norms folded into the convolutions before them: in eval mode each is a factor and a shift.

    The answer is the same but for rounding (float64: 1e-12 of it). The weights are folded in float64, since the variances of
    published weights reach millions.

    Args:
        model: a split network. A batch norm that does not stand right behind a convolution stays.

    Returns:
        Another split network; the given one is left as it is.
    """
    shared = [module for module in model.modules() if isinstance(module, (FusedBlocks, FusedDecoder))]  # without batch norms
    model = copy.deepcopy(model, {id(module): module for module in shared})
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(zip(list(module), list(module)[1:], strict=False), start=1):
                if _can_fold(first, second) and not (module is model.layers and i == model.at):  # a norm behind the cut stays
                    _fold(second, first)
            _drop_folded(module)
        elif isinstance(module, FourierUnit):
            _fold(module.bn, module.conv_layer)
            _drop_folded(module)
        elif isinstance(module, FourierLayer):
            ffc = module.ffc
            _fold(module.bn_l, ffc.convl2l, *([ffc.convg2l] if hasattr(ffc, "convg2l") else []))
            if hasattr(module, "bn_g"):
                _fold(module.bn_g, ffc.convl2g, *([ffc.convg2g.conv2] if hasattr(ffc, "convg2g") else []))
            _drop_folded(module)
    return model


def _can_fold(convolution, norm):
    plain = type(convolution) in (nn.Conv2d, nn.ConvTranspose2d) and type(norm) is nn.BatchNorm2d
    if not plain or convolution._forward_pre_hooks or convolution._forward_hooks:
        return False
    is_grouped = isinstance(convolution, nn.ConvTranspose2d) and convolution.groups > 1
    return norm.weight is not None and norm.running_var is not None and not is_grouped


@torch.no_grad()
def _fold(norm, convolution, *others):
    """Multiplies convolutions, whose sum the norm sees, by its factor; the first one takes its shift as well."""
    factor, shift = factor_and_shift(norm)
    if convolution.bias is not None:
        shift = shift + convolution.bias.cpu().double() * factor
    for one in (convolution, *others):
        shape = (1, -1, 1, 1) if isinstance(one, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        one.weight.copy_(one.weight.cpu().double() * factor.view(shape))
    convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)
    norm.is_folded = True


def _drop_folded(module):
    for name, child in list(module.named_children()):
        if getattr(child, "is_folded", False):
            setattr(module, name, nn.Identity())


def fused(model, precision=None):
    """The network with LaMa's residual blocks behind the cut as ``FusedBlocks``, and with a ``FusedDecoder``.

    The answer is the same but for rounding (float64: 1e-12 of it), the gradient needs a byte where it kept many numbers.

    Args:
        model: a split network that is a list of layers.
        precision: of the convolutions in them, as in ``FusedBlocks``.

    Returns:
        Another split network, which shares the other layers of the given one.
    """
    _check_list(model)
    layers, run = list(model.layers[: model.at]), []
    decoder = FusedDecoder.begins_at(model.layers, first=model.at)
    for layer in [*model.layers[model.at : decoder], None]:
        if layer is not None and FusedBlocks.can_hold(layer):
            run.append(layer)
            continue
        layers += [FusedBlocks(run, precision)] * bool(run)
        layers += [layer] * (layer is not None)
        run = []
    layers += [] if decoder is None else [FusedDecoder(model.layers[decoder:], precision)]
    return _with_layers(model, layers)


def in_precision(model, precision=torch.bfloat16):
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
BEFORE, BEHIND = 4 + 3, 4 + 3 + 7


def around_hole(model):
    """LaMa with a decoder that works around the hole alone: what is far from it never enters the loss nor the picture.

    The prediction is the same in the hole and 4 px around it; elsewhere it is 0.

    Args:
        model: a split network that is a list of layers, LaMa's, cut before its decoder.

    Returns:
        Another split network, which shares the layers of the given one.
    """
    _check_list(model)
    if _join_of(model) is None:
        raise ValueError("model has no decoder of LaMa behind its cut; expected a LamaGenerator, cut before its decoder")
    around = _with_layers(model, model.layers, kind=AroundHole)
    around.join = _join_of(model)
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

    join = None

    def front(self, image, mask):
        z = super().front(image, mask)
        cell = LamaGenerator.multiple
        parts = bounding_box(mask)
        z.box = tuple(slice(max((part.start - BEFORE) // cell, 0), -(-(part.stop + BEHIND) // cell)) for part in parts)
        return z

    def rear(self, z):
        if getattr(z, "box", None) is None:
            return super().rear(z)
        (rows, columns), cell = z.box, LamaGenerator.multiple
        x = self.layers[self.at : self.join + 1](tuple(z) if len(z) > 1 else z[0])
        height, width = x.shape[-2:]
        beside = columns.start, max(width - columns.stop, 0), rows.start, max(height - rows.stop, 0)
        part = self.layers[self.join + 1 :](cropped(x, beside).contiguous(memory_format=torch.channels_last))
        whole = F.pad(part, [cell * n for n in beside])
        return whole if z.size is None and self.value_range == (0, 1) else self._as_picture(whole, z.size)


def checkpointed(model, n_segments):
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


def dealt_out(model):
    """The layers behind the cut that ``checkpointed`` puts into segments; fused blocks count as what they are made of."""
    start, stop = _dealt(model)
    layers = model.layers[start:stop]
    return [part for layer in layers for part in (layer.by_block() if isinstance(layer, FusedBlocks) else [layer])]


def _dealt(model):
    """Where the layers that can be dealt out begin and end."""
    ends = [i for i, layer in enumerate(model.layers) if isinstance(layer, FusedDecoder)]
    ends = [model.join] if isinstance(model, AroundHole) else ends
    return model.at, ends[0] if ends else len(model.layers)


class Segment(nn.Sequential):
    """Layers that are computed again when their gradient is asked for, in place of keeping what they computed."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=False)
