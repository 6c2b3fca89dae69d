"""What a network must do so that its featuremap can be optimized. It is tried on a small picture before any work is done."""

import weakref
from typing import Any

import torch

from refine_lib.checks import dtype_name
from refine_lib.device import plainly
from refine_lib.networks.featuremap import Featuremap, as_leaves, in_place_of

SMALL_PX = 64
_PASSED = weakref.WeakKeyDictionary()  # the fingerprints of networks that passed: they are not tried again while as they were


@plainly
def check_model(model: Any, dtype: torch.dtype, device: torch.device | None = None) -> None:
    """Raises unless the model is a split network whose prediction has a derivative by z.

    The network is shown a gray picture of about 64 px.

    Args:
        model: as ``split_network`` makes it.
        dtype: that its weights must have.
        device: that its weights must be on. None allows any.

    Raises:
        TypeError: where it is no split network, or its weights have another dtype.
        ValueError: where its weights are on another device, or ``check_gradient`` fails.
    """
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
        check_gradient(model, dtype)
    if fingerprint is not None:
        _PASSED[model] = fingerprint, dtype


def device_of(model: Any, default: torch.device) -> torch.device:
    """The device that a model's weights are on; ``default`` for a model without any."""
    weights = _weights(model)
    return default if weights is None else weights.device


def _weights(model) -> torch.Tensor | None:
    return next(iter(model.parameters()), None) if hasattr(model, "parameters") else None


def small_picture(model: Any, dtype: torch.dtype = torch.float32, seed: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A small picture (1, 3, size, size) and its mask (1, 1, size, size), like the model's weights in dtype and device.

    Args:
        model: a split network. The size is a multiple of the network's, and 64 px at least.
        dtype: for a model without weights.
        seed: of noise in [0, 1). None makes a gray picture.
    """
    size = -(-SMALL_PX // getattr(model, "multiple", 1)) * getattr(model, "multiple", 1)
    weights = _weights(model)
    image = torch.full((1, 3, size, size), 0.5, dtype=dtype)
    if seed is not None:
        image = torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))
    image = image.to(dtype) if weights is None else image.to(weights)
    mask = torch.zeros_like(image[:, :1])
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    return image, mask


@torch.no_grad()
def small_featuremap(model: Any) -> Featuremap:
    """The z of a small gray picture."""
    return model.front(*small_picture(model))


def check_repeatable(model: Any) -> None:
    """Raises unless the network gives the same picture each time, and the cut network that of the whole one.

    Raises:
        ValueError: where it does not. The message says what to look for.
    """
    state = [*model.parameters(), *model.buffers()]
    before = [t._version for t in state]
    picture = small_picture(model, seed=0)
    with torch.no_grad():
        first, second, cut = model(*picture), model(*picture), model.rear(model.front(*picture))
    if [t._version for t in state] != before:
        raise ValueError("the network has side effects: it changes its own weights or buffers when it is run")
    if not first.isfinite().all():
        return  # check_gradient names it
    if not alike(first, second):
        raise ValueError("the network has side effects: it gives another picture when it is run again; does it draw noise?")
    if not alike(first, cut):
        raise ValueError(
            "the cut network gives another picture than the whole one: what the network does cannot be followed."
            " Look for numpy, TorchScript, or a value that is kept from one pass to the next"
        )


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))


def check_gradient(model: Any, dtype: torch.dtype = torch.float32) -> None:
    """Raises ``ValueError`` unless the prediction is a finite picture of the input's size with a derivative by z."""
    image, mask = small_picture(model, dtype)
    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, mask))
    with torch.enable_grad():
        prediction = model.rear(z)
        total = prediction.sum()
    if prediction.shape != image.shape or prediction.dtype != image.dtype:
        given, made = (f"{dtype_name(t.dtype)} {tuple(t.shape)}" for t in (image, prediction))
        raise ValueError(f"the network turns a picture of {given} into {made}; expected the same shape and dtype")
    if not prediction.isfinite().all():
        raise ValueError("the network's prediction on a plain gray picture is not finite; are its weights whole?")
    found = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else ()
    gradients = [gradient for gradient in found if gradient is not None]
    if not gradients:
        raise ValueError(
            "the network breaks the gradient: no derivative of its output reaches z."
            " Look behind the split for .detach(), torch.no_grad() or .numpy()"
        )
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise ValueError("the network breaks the gradient: the prediction's derivative by z is not finite")
    if any(gradient.any() for gradient in gradients):
        return
    # The network is broken, unless it is dead or saturated, which it may be for this picture alone.
    with torch.no_grad():
        nearby = model.rear(in_place_of(z, [1.1 * t + 0.1 for t in leaves]))
    saturated = ((prediction < 1e-6) | (prediction > 1 - 1e-6)).all()
    if not saturated and not torch.allclose(nearby, prediction, atol=1e-3):
        raise ValueError("the network breaks the gradient: the prediction's derivative by z is zero everywhere; does it round?")
