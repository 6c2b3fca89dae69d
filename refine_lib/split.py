"""A network cut in two: ``front`` makes the featuremap z, ``rear`` makes the picture from it, and z can be optimised.

The cut is made at a layer of a ``Sequential``. A split network owns what its network wants to see: the value in the hole,
the range of values, the multiple that sizes are padded to.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.checks import dtype_name
from refine_lib.networks.lama import LamaGenerator


class Featuremap(tuple):
    """z: the tensors that cross the cut, and the ``size`` (H, W) of the picture that they stand for.

    A LaMa generator cut at its blocks has two, local (B, C1, H/8, W/8) and global (B, C2, H/8, W/8); a cut elsewhere has one.
    """

    def __new__(cls, tensors, size):
        self = super().__new__(cls, tensors)
        self.size = tuple(size)
        return self

    def __getnewargs__(self):
        return tuple(self), self.size

    @property
    def nbytes(self):
        """Memory of the tensors, in bytes."""
        return sum(t.nbytes for t in self)

    def __repr__(self):
        shapes = ", ".join(str(tuple(t.shape)) for t in self)
        return f"Featuremap({shapes}; {self.nbytes / 2**20:.1f} MB)"


class SplitNetwork(nn.Module):
    """A network as ``front`` and ``rear``, made by ``split_network``. Its weights are frozen; only z moves."""

    def __init__(self, layers, at, hole_value, value_range, multiple):
        super().__init__()
        self.layers = layers.eval().requires_grad_(False)
        self.at = at
        self.hole_value = hole_value
        self.value_range = value_range
        self.multiple = multiple

    def train(self, mode=True):
        """Does nothing: a split network stays in eval mode, where batch norm treats each picture alone."""
        return super().train(False)

    def network_input(self, image, mask):
        """What the first layer sees, (B, 4, H, W): the image in the network's range, its hole filled, padded; and the mask."""
        low, high = self.value_range
        seen = torch.where(mask > 0, self.hole_value, image * (high - low) + low)
        return _pad(torch.cat([seen, mask], dim=1), self.multiple)

    def front(self, image, mask):
        """From a picture with a hole to the featuremap z.

        Args:
            image: (B, 3, H, W) in [0, 1]; what it holds in the hole is not looked at.
            mask: (B, 1, H, W), 1 = hole.

        Returns:
            z, a ``Featuremap``: a tuple of tensors (B, C, h, w) that knows the size of the picture.
        """
        x = self.network_input(image, mask)
        for layer in self.layers[: self.at]:
            x = layer(x)
        return Featuremap(x if isinstance(x, tuple) else (x,), image.shape[-2:])

    def rear(self, z):
        """From the featuremap to the prediction, known pixels included.

        Args:
            z: what ``front`` gave. A plain tensor or tuple of tensors is taken too; it does not know the picture's size, so
                the prediction keeps the padding to the network's multiple.

        Returns:
            (B, 3, H, W), in [0, 1] where the network keeps to its range.
        """
        x = z if isinstance(z, torch.Tensor) else z[0] if len(z) == 1 else tuple(z)
        for layer in self.layers[self.at :]:
            x = layer(x)
        height, width = z.size if isinstance(z, Featuremap) else x.shape[-2:]
        low, high = self.value_range
        return (x[..., :height, :width] - low) / (high - low)

    def forward(self, image, mask):
        """The plain prediction, (B, 3, H, W): ``rear(front(image, mask))``."""
        return self.rear(self.front(image, mask))

    def __repr__(self):
        def part(layers):
            return f"{len(layers)} layers, {sum(p.numel() for p in layers.parameters()):,} parameters"

        front, rear = self.layers[: self.at], self.layers[self.at :]
        cut = f"before layer {self.at} ({type(rear[0]).__name__})" if len(rear) else "behind the last layer"
        return f"SplitNetwork, cut {cut}\n  front: {part(front)}\n  rear:  {part(rear)}"


def split_network(network, at=None, hole_value=0.0, value_range=(0.0, 1.0), multiple=None):
    """Cuts a network in two, so that the featuremap between can be optimised. It freezes the network's weights.

    Args:
        network: a ``LamaGenerator``, or an ``nn.Sequential`` that takes (B, 4, H, W), image and mask, to (B, 3, H, W).
        at: the layer that the rear begins with, as index or as name; 0 is before all, ``len(layers)`` behind all. None is
            the paper's choice for a LaMa generator, before the first residual block.
        hole_value: what the network sees in the hole, in the network's own range.
        value_range: of the network's image, in and out.
        multiple: height and width are padded to a multiple of this by reflection at the right and the bottom, and the
            prediction is cropped. None asks the network (8 for LaMa), else 1.

    Returns:
        A ``SplitNetwork``: ``front(image, mask)``, ``rear(z)``, and ``model(image, mask)`` for both.

    Raises:
        TypeError: where the network is of another kind.
        ValueError: where there is no such layer, or a small picture shows that the network does not return a picture of
            the same size, or breaks the gradient.

    Source: the front and rear of Algorithm 1; for LaMa the cut of the authors' code.
    """
    layers = network.model if isinstance(network, LamaGenerator) else network
    if not isinstance(layers, nn.Sequential):
        raise TypeError(f"network is a {type(network).__name__}; expected a LamaGenerator or an nn.Sequential")
    if at is None and not hasattr(network, "first_block"):
        raise ValueError(f"at is None, which only a LamaGenerator knows; expected a layer, 0 to {len(layers)} or a name")
    at = network.first_block if at is None else _find_layer(layers, at)
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range is {value_range!r}; expected (low, high) with low below high")
    multiple = getattr(network, "multiple", 1) if multiple is None else multiple
    if not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"multiple is {multiple!r}; expected a whole number of 1 or more pixels")

    model = SplitNetwork(layers, at, float(hole_value), (float(low), float(high)), multiple)
    _check_gradient(model)
    return model


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
    _check_gradient(model, dtype)


@dataclass(frozen=True)
class Layer:
    """What a layer of a network gives for a picture: the shapes of its tensors, and their memory in bytes."""

    index: int
    name: str
    shapes: tuple
    nbytes: int

    def __str__(self):
        shapes = " + ".join(" x ".join(map(str, shape[1:])) for shape in self.shapes)
        return f"{self.index:2}  {self.name:19} {shapes:31} {self.nbytes / 2**20:5.1f} MB"


@torch.no_grad()
def trace(model, image, mask):
    """Runs a split network layer by layer and tells what each one gives.

    Args:
        model: a ``SplitNetwork``.
        image, mask: as in ``SplitNetwork.front``.

    Returns:
        A list of ``Layer``, in the order in which they run.
    """
    x, found = model.network_input(image, mask), []
    for index, layer in enumerate(model.layers):
        x = layer(x)
        tensors = x if isinstance(x, tuple) else (x,)
        shapes = tuple(tuple(t.shape) for t in tensors)
        found.append(Layer(index, type(layer).__name__, shapes, sum(t.nbytes for t in tensors)))
    return found


def as_leaves(z):
    """A copy of z that an optimiser can move: its tensors, detached and with gradients, as a list; and z made of them.

    The z that comes back is a plain tensor or tuple: the rear then keeps the network's padding.
    """
    leaves = [t.detach().clone().requires_grad_() for t in ((z,) if isinstance(z, torch.Tensor) else z)]
    return leaves, (leaves[0] if isinstance(z, torch.Tensor) else tuple(leaves))


def device_of(model, default):
    """The device that a model's weights are on; ``default`` for a model without any."""
    weights = _weights(model)
    return default if weights is None else weights.device


def _weights(model):
    return next(iter(model.parameters()), None) if hasattr(model, "parameters") else None


def _check_gradient(model, dtype=torch.float32):
    if torch.is_inference_mode_enabled():
        raise RuntimeError("torch.inference_mode() is on, and refinement needs gradients; torch.no_grad() would do")
    multiple = getattr(model, "multiple", 1)
    size = -(-64 // multiple) * multiple
    weights = _weights(model)
    options = {"dtype": dtype} if weights is None else {"dtype": weights.dtype, "device": weights.device}
    image = torch.full((1, 3, size, size), 0.5, **options)
    mask = torch.zeros_like(image[:, :1])
    mask[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    with torch.no_grad():
        z = model.front(image, mask)
    leaves, z = as_leaves(z)
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
    for i, gradient in enumerate(gradients):
        if gradient is None:
            raise ValueError(
                f"the network breaks the gradient: no derivative of its output reaches tensor {i} of the {len(leaves)} in z."
                " Look behind the split for .detach(), torch.no_grad() or .numpy()"
            )
        if not gradient.isfinite().all():
            raise ValueError("the network breaks the gradient: the prediction's derivative by z is not finite")
    if not any(gradient.any() for gradient in gradients):  # dead or saturated, which other pictures may not be, or broken
        with torch.no_grad():
            moved = [1.1 * t + 0.1 for t in leaves]
            nearby = model.rear(tuple(moved) if isinstance(z, tuple) else moved[0])
        saturated = ((prediction < 1e-6) | (prediction > 1 - 1e-6)).all()
        if saturated or torch.allclose(nearby, prediction, atol=1e-3):
            return
        raise ValueError("the network breaks the gradient: the prediction's derivative by z is zero everywhere; does it round?")


def _find_layer(layers, at):
    names = [name for name, _ in layers.named_children()]
    if isinstance(at, str):
        name = at.removeprefix("model.")
        if name not in names:
            raise ValueError(f"at is {at!r}; expected the name of a layer, one of {', '.join(names)}")
        return names.index(name)
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= len(layers):
        raise ValueError(f"at is {at!r}; expected the index of a layer, 0 to {len(layers)}, or its name")
    return at


def _pad(x, multiple):
    down, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if down >= x.shape[-2] or right >= x.shape[-1]:
        size = " x ".join(map(str, x.shape[-2:]))
        raise ValueError(f"image is {size} px, too small to be padded to a multiple of {multiple} by reflection")
    return F.pad(x, (0, right, 0, down), mode="reflect")
