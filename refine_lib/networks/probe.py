"""What a network must do so that its featuremap can be optimised, tried on a small grey picture before any work is done."""

import weakref

import torch

from refine_lib.checks import dtype_name
from refine_lib.networks.featuremap import as_leaves, in_place_of

_PASSED = weakref.WeakKeyDictionary()  # the fingerprints of networks that passed: they are not tried again while as they were


def check_model(model, dtype, device=None):
    """Raises unless model is a split network of this dtype, on this device, whose prediction has a derivative by z.

    Nothing larger than 64 px is computed: the network is shown a small grey picture.
    """
    for part in ("front", "rear", "__call__"):
        if not callable(getattr(model, part, None)):
            raise TypeError(f"model is a {type(model).__name__} without .{part}; expected split_network(network)")
    weights = _weights(model)
    if weights is not None and weights.dtype != dtype:
        wanted = f"expected the same: model.to({dtype}) or image.to({weights.dtype}), and the mask likewise"
        raise TypeError(f"model is {dtype_name(weights.dtype)} and image is {dtype_name(dtype)}; {wanted}")
    if weights is not None and device is not None and weights.device != device:
        raise ValueError(f"model is on {weights.device} and image on {device}; expected the same device")
    _refuse_inference_mode()
    fingerprint = model.fingerprint() if hasattr(model, "fingerprint") else None
    if fingerprint is None or _PASSED.get(model) != (fingerprint, dtype):
        check_gradient(model, dtype)
    if fingerprint is not None:
        _PASSED[model] = fingerprint, dtype


def device_of(model, default):
    """The device that a model's weights are on; ``default`` for a model without any."""
    weights = _weights(model)
    return default if weights is None else weights.device


def _weights(model):
    return next(iter(model.parameters()), None) if hasattr(model, "parameters") else None


def small_picture(model, dtype=torch.float32, seed=None):
    """A small picture and its hole, (1, 3, size, size) and (1, 1, size, size), for the model: grey, or noise of a seed."""
    size = -(-64 // getattr(model, "multiple", 1)) * getattr(model, "multiple", 1)
    weights = _weights(model)
    options = {"dtype": dtype} if weights is None else {"dtype": weights.dtype, "device": weights.device}
    image = torch.full((1, 3, size, size), 0.5, **options)
    if seed is not None:
        image = torch.rand(image.shape, generator=torch.Generator().manual_seed(seed)).to(image)
    mask = torch.zeros_like(image[:, :1])
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    return image, mask


@torch.no_grad()
def small_featuremap(model):
    """The z of a small picture."""
    return model.front(*small_picture(model))


def check_repeatable(model):
    """Raises unless the network gives the same picture each time, and the cut network that of the whole one."""
    _refuse_inference_mode()
    state = [*model.parameters(), *model.buffers()]
    before = [t._version for t in state]
    picture = small_picture(model, seed=0)
    with torch.no_grad():
        first, second, cut = model(*picture), model(*picture), model.rear(model.front(*picture))
    if [t._version for t in state] != before:
        raise ValueError("the network has side effects: it changes its own weights or buffers when it is run")
    if not first.isfinite().all():
        return  # the next check names it
    if not alike(first, second):
        raise ValueError("the network has side effects: it gives another picture when it is run again; does it draw noise?")
    if not alike(first, cut):
        raise ValueError(
            "the cut network gives another picture than the whole one: what the network does cannot be followed."
            " Look for numpy, TorchScript, or a value that is kept from one pass to the next"
        )


def alike(a, b):
    """Whether two tensors are the same but for rounding."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))


def _refuse_inference_mode():
    if torch.is_inference_mode_enabled():
        raise RuntimeError("torch.inference_mode() is on, and refinement needs gradients; torch.no_grad() would do")


def check_gradient(model, dtype=torch.float32):
    """Raises unless the prediction is a finite picture of the input's size with a derivative by z."""
    _refuse_inference_mode()
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
        raise ValueError("the network's prediction on a plain grey picture is not finite; are its weights whole?")
    gradients = [None] * len(leaves)
    if total.requires_grad:
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    gradients = [gradient for gradient in gradients if gradient is not None]
    if not gradients:
        raise ValueError(
            "the network breaks the gradient: no derivative of its output reaches z."
            " Look behind the split for .detach(), torch.no_grad() or .numpy()"
        )
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise ValueError("the network breaks the gradient: the prediction's derivative by z is not finite")
    if not any(gradient.any() for gradient in gradients):  # dead or saturated, which other pictures may not be, or broken
        with torch.no_grad():
            nearby = model.rear(in_place_of(z, [1.1 * t + 0.1 for t in leaves]))
        saturated = ((prediction < 1e-6) | (prediction > 1 - 1e-6)).all()
        if saturated or torch.allclose(nearby, prediction, atol=1e-3):
            return
        raise ValueError("the network breaks the gradient: the prediction's derivative by z is zero everywhere; does it round?")
