"""What a network must do so that its featuremap can be optimized. It is tried on a small picture before any work is done."""

import contextlib
import warnings
import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from refine_lib.checks import dtype_name
from refine_lib.device import plainly
from refine_lib.networks.featuremap import Featuremap, as_leaves, in_place_of
from refine_lib.networks.registry import why_not_split
from refine_lib.networks.trace import Unfit, named, record

SMALL_PX = 64
ODD_PX = 49, 65  # padded to a multiple of 2, 4, ... or 64, one side at least is no multiple of twice as much
LARGEST_TRIED = 128  # of the multiples that are looked for
DEEPEST = 64  # layers within layers, for Python's stack has an end
_PASSED = weakref.WeakKeyDictionary()  # the fingerprints of networks that passed: they are not tried again while as they were


@plainly
def check_model(
    model: Any, dtype: torch.dtype, device: torch.device | None = None, default: torch.device | str = "cpu"
) -> None:
    """Raises unless the model is a split network whose prediction has a derivative by z.

    The network is shown a gray picture of about 64 px.

    Args:
        model: as ``split_network`` makes it.
        dtype: that its weights must have.
        device: that its weights must be on. None allows any.
        default: the device that a model is tried on which has no weights that can be seen.

    Raises:
        TypeError: where it is no split network, or its weights have another dtype.
        ValueError: where its weights are on another device, or ``check_gradient`` fails.
    """
    if why := why_not_split(model):
        raise Unfit(why)
    for part in ("front", "rear", "__call__"):
        if not callable(getattr(model, part, None)):
            raise TypeError(f"model is a {type(model).__name__} without .{part}; expected split_network(network)")
    weights = _weights(model)
    if weights is not None and weights.dtype != dtype:
        wanted = f"expected the same: model.to({dtype}) or image.to({weights.dtype}), and the mask likewise"
        raise TypeError(f"model is {dtype_name(weights.dtype)} and image is {dtype_name(dtype)}; {wanted}")
    if weights is not None and device not in (None, weights.device):
        raise ValueError(f"model is on {weights.device} and image on {device}; expected the same device")
    fingerprint = model.fingerprint() if hasattr(model, "fingerprint") else None
    if fingerprint is None or _PASSED.get(model) != (fingerprint, dtype):
        check_gradient(model, dtype, default)
    if fingerprint is not None:
        _PASSED[model] = fingerprint, dtype


def check_network(network: Any) -> None:
    """Raises unless a network is a module whose layers and weights can be seen and are there.

    Raises:
        TypeError: where it is no module, or its weights are neither float32 nor float64.
        Unfit: where it is TorchScript, compiled, or dealt out to devices; where weights have no memory; where its layers are
            nested too deeply; where it has a batch norm without running statistics, which mixes the pictures of a batch.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network is a {type(network).__name__}; expected an nn.Module")
    if why := why_not_split(network):
        raise Unfit(why)
    if isinstance(network, torch.jit.ScriptModule):
        raise Unfit("network is TorchScript, which cannot be cut; expected the nn.Module that it was made of")
    for name, module in network.named_modules():
        where = f"network.{name}".rstrip(".")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise Unfit(f"{where} is compiled; expected the network as it was before torch.compile")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise Unfit(f"{where} is a {type(module).__name__}; expected the network within it, {where}.module")
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            told = "a picture would depend on the others of its batch; expected running statistics, or an InstanceNorm2d"
            raise Unfit(f"{where} is a batch norm without running statistics: {told}")
        if name.count(".") >= DEEPEST:
            raise Unfit(f"network has layers within layers, {name.count('.') + 1} deep or more; expected at most {DEEPEST}")
    state = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in state:
        if is_lazy(tensor):
            raise Unfit(f"network.{name} has no size yet; run the network once, on (1, 4, 64, 64)")
        if tensor.is_meta:
            raise Unfit(f"network.{name} is on the meta device; expected weights in memory")
    devices = sorted({str(tensor.device) for _, tensor in state})
    if len(devices) > 1:
        raise Unfit(f"network is on {' and '.join(devices)}; expected one device: network.to({devices[0]!r})")
    weights = _weights(network)
    if weights is not None and weights.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"network is {dtype_name(weights.dtype)}; expected float32 or float64: network.float()")


def device_of(model: Any, default: torch.device) -> torch.device:
    """The device that a model's weights are on; ``default`` for a model without any."""
    weights = _weights(model)
    return default if weights is None else weights.device


def _weights(model) -> torch.Tensor | None:
    state = (t for kind in ("parameters", "buffers") for t in getattr(model, kind, tuple)())
    return next((t for t in state if t.is_floating_point() or t.is_complex()), None)


def small_picture(
    model: Any,
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    odd: bool = False,
    default: torch.device | str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """A small picture (1, 3, H, W) and its mask (1, 1, H, W), like the model's weights in dtype and device.

    Args:
        model: a split network.
        dtype, default: for a model without weights; the second is a device.
        seed: of noise in [0, 1). None makes a gray picture.
        odd: whether the sides are odd, 49 px and 65 px, or as much more as it takes to be padded. Else they are the same
            multiple of the network's, and 64 px at least.
    """
    multiple, weights = getattr(model, "multiple", 1), _weights(model)
    height, width = (max(side, multiple // 2 + 1) if odd else -(-SMALL_PX // multiple) * multiple for side in ODD_PX)
    image = torch.full((1, 3, height, width), 0.5, dtype=dtype, device="cpu")
    if seed is not None:
        image = torch.rand(image.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32, device="cpu")
    image = image.to(default, dtype) if weights is None else image.to(weights)
    mask = torch.zeros_like(image[:, :1])
    mask[..., height // 4 : height // 2, width // 4 : width // 2] = 1
    return image, mask


@torch.no_grad()
def small_featuremap(model: Any) -> Featuremap:
    """The z of a small gray picture."""
    return model.front(*small_picture(model))


def check_repeatable(model: Any) -> None:
    """Raises unless the network gives the same picture each time, and the cut network that of the whole one.

    The picture has odd sides, so that a network which takes multiples only is found. The message then names the multiple.

    Raises:
        Unfit: where it does not. The message says what to look for.
    """
    state = [*model.parameters(), *model.buffers()]
    before = [t._version for t in state]
    image, mask = small_picture(model, seed=0, odd=True)
    with torch.no_grad():
        first, cut = _predicted_or_multiple(model), model.rear(model.front(image, mask))
        if [t._version for t in state] != before:
            raise Unfit("the network has side effects: it changes its own weights or buffers when it is run")
        if not first.isfinite().all() or alike(first, cut):
            return  # check_gradient names what is not finite
        again = model(image, mask)
    if not alike(first, again):
        raise Unfit("the network has side effects: it gives another picture when it is run again; does it draw noise?")
    raise Unfit(
        "the cut network gives another picture than the whole one: what the network does cannot be followed."
        " Look for numpy, TorchScript, or a value that is kept from one pass to the next"
    )


def check_weights(model: Any) -> None:
    """Raises unless all weights are finite. The network is not tried any more while it is as it is now.

    Raises:
        Unfit: where they are not.
    """
    if not all(t.isfinite().all() for t in (*model.parameters(), *model.buffers())):
        raise Unfit("the network's weights are not all finite; are they whole?")
    if not why_not_split(model):
        _PASSED[model] = model.fingerprint(), next(model.parameters()).dtype


def _predicted_or_multiple(model):
    try:
        return _predicted(model)
    except Unfit as error:
        multiple = _multiple_of(model)
        if multiple is None:
            raise
        raise Unfit(f"{error}. Padded to a multiple of {multiple} px it works: give multiple={multiple}") from error


def _multiple_of(model):
    """The smallest multiple, of those twice, four times, ... as large as the network's, at which it works."""
    given = model.multiple
    try:
        while 2 * model.multiple <= LARGEST_TRIED:
            model.multiple *= 2
            with contextlib.suppress(Unfit):
                _predicted(model)
                return model.multiple
    finally:
        model.multiple = given


def _predicted(model):
    image, mask = small_picture(model, seed=0, odd=True)
    prediction = model(image, mask)
    _check_picture(prediction, image)
    return prediction


def _check_picture(prediction, image):
    if prediction.shape != image.shape or prediction.dtype != image.dtype:
        given, made = (f"{dtype_name(t.dtype)} {tuple(t.shape)}" for t in (image, prediction))
        raise Unfit(f"the network turns a picture of {given} into {made}; expected the same shape and dtype")


@named("where its gradient is followed")
def check_followed(model: Any) -> None:
    """Raises ``Unfit`` unless the gradient through what was followed is the network's own, on two pictures of noise."""
    for seed in (1, 2):
        x = model.network_input(*small_picture(model, seed=seed)).requires_grad_()
        with torch.enable_grad(), warnings.catch_warnings(action="ignore"):  # on numbers taken out of what has a gradient
            whole, followed = model.network(x), record(model.network, x, model.at, model.moves)
            cut = followed.run(followed.z)
            some = torch.rand(whole.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(whole)
            whole, cut = ((some * picture).sum() for picture in (whole, cut))
        wanted, found = (
            torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)[0] if total.requires_grad else x * 0
            for total in (whole, cut)
        )
        scale = wanted.abs().max().clamp(min=1e-12)
        if wanted.isfinite().all() and not alike(found / scale, wanted / scale):
            raise Unfit(
                "the cut network has another gradient than the whole one: what the network does cannot be followed. Look behind"
                " the cut for TorchScript, vmap, or hooks on gradients"
            )


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))


@named("where it is tried on a small gray picture")
def check_gradient(model: Any, dtype: torch.dtype = torch.float32, default: torch.device | str = "cpu") -> None:
    """Raises ``Unfit`` unless the prediction is a finite picture of the input's size with a derivative by z."""
    image, mask = small_picture(model, dtype, default=default)
    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, mask))
    with torch.enable_grad():
        prediction = model.rear(z)
        total = prediction.sum()
    _check_picture(prediction, image)
    if not prediction.isfinite().all():
        raise Unfit("the network's prediction on a plain gray picture is not finite; are its weights whole?")
    found = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else ()
    gradients = [gradient for gradient in found if gradient is not None]
    if not gradients:
        raise Unfit(
            "the network breaks the gradient: no derivative of its output reaches z."
            " Look behind the split for .detach(), torch.no_grad() or .numpy()"
        )
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise Unfit("the network breaks the gradient: the prediction's derivative by z is not finite")
    if any(gradient.any() for gradient in gradients):
        return
    # The network is broken, unless it is dead or saturated, which it may be for this picture alone.
    with torch.no_grad():
        nearby = model.rear(in_place_of(z, [1.1 * t + 0.1 for t in leaves]))
    saturated = ((prediction < 1e-6) | (prediction > 1 - 1e-6)).all()
    if not saturated and not torch.allclose(nearby, prediction, atol=1e-3):
        raise Unfit("the network breaks the gradient: the prediction's derivative by z is zero everywhere; does it round?")
