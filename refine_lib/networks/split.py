"""A network cut in two: ``front`` makes the featuremap z, ``rear`` makes the picture from it, and z can be optimized.

A network that is a list of layers is cut between two of them. Any other network is cut at layers that are named. A split
network knows what its network wants to see: the value in the hole, the range of values, the multiple that sizes are padded to.
"""

import difflib
import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.checks import dtype_name
from refine_lib.device import plainly
from refine_lib.networks.featuremap import Featuremap, shapes_of
from refine_lib.networks.probe import (
    LARGEST_TRIED,
    check_followed,
    check_gradient,
    check_network,
    check_repeatable,
    check_weights,
    small_featuremap,
)
from refine_lib.networks.registry import ARCHITECTURES
from refine_lib.networks.trace import Unfit, named, record

LARGEST_MULTIPLE = 512  # pixels; a network is tried on a picture that is as large
LARGEST_NUMBER = 1e30  # in a picture; float32 holds 3e38


class SplitNetwork(nn.Module):
    """A list of layers as ``front`` and ``rear``, made by ``split_network``. Its weights are frozen; only z moves.

    ``print(model)`` shows the cut, and the shapes and the memory of z.

    Attributes:
        layers: all layers in their order.
        at: the index of the first layer of the rear.
        hole_value: what the network sees in the hole, in its own range.
        value_range: of the network's pictures, in and out.
        multiple: in pixels. Height and width are padded to a multiple of it.
        name: as ``load_network`` knows it; empty where it was not loaded by that.
    """

    layers: nn.Sequential
    name: str = ""

    def __init__(self, layers: nn.Sequential, at: Any, hole_value: float, value_range: tuple[float, float], multiple: int):
        super().__init__()
        self.layers = layers.eval().requires_grad_(False)
        self.at, self.hole_value, self.value_range, self.multiple = at, hole_value, value_range, multiple

    @property
    def least_px(self) -> int:
        """The side of the smallest picture on which the whole network works: its multiple, or what its layers say."""
        return max(self.multiple, *self._said("least_px", 1))

    @property
    def note(self) -> str:
        """What the network has to say of what it does without, in sentences; else empty."""
        return " ".join(filter(None, self._said("note", "")))

    def _said(self, name, default):
        return [getattr(part, name, default) for part in (*self.children(), *self.layers)]

    def train(self, mode: bool = True):
        """Does nothing: a split network stays in eval mode, where batch norm treats each picture alone."""
        return super().train(False)

    def network_input(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the first layer sees, (B, 4, H, W): the image in the network's range, its hole filled, and the mask; padded.

        Raises:
            ValueError: where the picture is too small to be padded.
        """
        low, high = self.value_range
        seen = torch.where(mask > 0, self.hole_value, image * (high - low) + low)
        return pad(torch.cat([seen, mask], dim=1), self.multiple)

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> Featuremap:
        """From a picture with a hole to the featuremap z.

        Args:
            image: (B, 3, H, W) in [0, 1]. What it holds in the hole is not looked at.
            mask: (B, 1, H, W), 1 = hole.

        Returns:
            z, a tuple of tensors (B, C, h, w) that knows the size of the picture.
        """
        x: Any = self.network_input(image, mask)
        with _named(image):
            for layer in list(self.layers)[: self.at]:  # not as a Sequential, which would hold its input to its end
                x = layer(x)
        return Featuremap(x if isinstance(x, tuple) else (x,), image.shape[-2:])

    def rear(self, z: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """From the featuremap to the prediction, known pixels included.

        Args:
            z: what ``front`` gave. A plain tensor or a tuple of tensors is taken, too. It does not know the picture's size, so
                that the prediction keeps the padding to the network's multiple.

        Returns:
            (B, 3, H, W), in [0, 1] where the network keeps to its range.
        """
        rear: Any = self.layers[self.at :]
        tensors = (z,) if isinstance(z, torch.Tensor) else tuple(z)
        if any(getattr(layer, "inplace", False) for layer in rear.modules()):
            tensors = tuple(t.clone() for t in tensors)  # a layer that works in place must not change z itself
        x: Any = tensors[0] if len(tensors) == 1 else tensors
        del tensors
        with named("behind its cut"):
            for layer in rear:
                x = layer(x)
        return self._as_picture(x, getattr(z, "size", None))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The plain prediction, (B, 3, H, W): ``rear(front(image, mask))``."""
        return self.rear(self.front(image, mask))

    def fingerprint(self) -> tuple[Hashable, ...] | None:
        """What changes when the network changes; None for a kind of network that cannot tell.

        Weights that were changed through ``.data`` are not seen to have changed.
        """
        return self._fingerprint() if type(self) is SplitNetwork else None

    def _fingerprint(self):
        weights = ((t.data_ptr(), t._version) for t in (*self.parameters(), *self.buffers()))
        return self.at, self.hole_value, self.value_range, self.multiple, *map(id, self.modules()), *weights

    def _as_picture(self, x, size):
        is_tensor = isinstance(x, torch.Tensor)
        if not is_tensor or not x.is_floating_point() or x.ndim != 4:
            given = f"{dtype_name(x.dtype)} {tuple(x.shape)}" if is_tensor else f"a {type(x).__name__}"
            raise Unfit(f"the network returns {given}; expected one tensor (B, 3, H, W) of floating numbers")
        height, width = size or x.shape[-2:]
        padded = [side + -side % self.multiple for side in (height, width)]
        if size and list(x.shape[-2:]) != padded:
            seen, made = (f"{rows} x {columns} px" for rows, columns in (padded, x.shape[-2:]))
            raise Unfit(f"the network turns a picture of {seen} into one of {made}; expected the same size")
        low, high = self.value_range
        return (x[..., :height, :width] - low) / (high - low)

    def __repr__(self):
        layers, z = list(self.layers), small_featuremap(self)
        front, rear = nn.ModuleList(layers[: self.at]), nn.ModuleList(layers[self.at :])
        cut = f"before layer {self.at} ({type(rear[0]).__name__})" if len(rear) else "behind the last layer"
        return (
            f"SplitNetwork, cut {cut}\n"
            f"  front: {len(front)} layers, {_n_parameters(front):,} parameters\n"
            f"  z:     {' + '.join(shapes_of(z))}, {_memory_of(z)}\n"
            f"  rear:  {len(rear)} layers, {_n_parameters(rear):,} parameters"
        )


class NamedSplitNetwork(SplitNetwork):
    """Any network as ``front`` and ``rear``, cut before the layers named ``at``, a tuple; otherwise a ``SplitNetwork``.

    The rear is what those layers do and all that follows from it. z is whatever crosses over to it, skip connections included,
    but for the picture and the mask themselves. What the network does is followed anew for each picture, so that it may depend
    on the picture's size.
    """

    def __init__(self, network: nn.Module, at: tuple[str, ...], *convention: Any, moves: tuple[str, ...] | None = None):
        super().__init__(nn.Sequential(), at, *convention)
        self.network, self.moves = network.eval().requires_grad_(False), moves

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> Featuremap:
        """As in ``SplitNetwork``; z has a tensor for each one that crosses the cut. It has no gradient to the picture."""
        x = self.network_input(image, mask).detach()
        with _named(image):
            followed = record(self.network, x, self.at, self.moves)
        return Featuremap(followed.z, image.shape[-2:], followed)

    def rear(self, z: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """As in ``SplitNetwork``, but z must be what ``front`` gave, or tensors in its place (``Featuremap.record``)."""
        if not isinstance(z, Featuremap) or z.record is None:
            raise TypeError(f"z is a {type(z).__name__}; expected the Featuremap that front gave")
        with named("behind its cut"):
            x = z.record.run(z)
        return self._as_picture(x, z.size)

    def fingerprint(self) -> tuple[Hashable, ...] | None:
        """As in ``SplitNetwork``, of a network of this package; any other may depend on what stands outside of it."""
        is_ours = type(self.network) in {architecture.network for architecture in ARCHITECTURES}
        return self._fingerprint() if is_ours else None

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The plain prediction, (B, 3, H, W)."""
        x = self.network_input(image, mask)
        with _named(image):
            x = self.network(x)
        return self._as_picture(x, image.shape[-2:])

    def __repr__(self):
        z = small_featuremap(self)
        followed: Any = z.record
        parts = (f"           {name:12} {shape}\n" for name, shape in zip(followed.sources, shapes_of(z), strict=True))
        return (
            f"SplitNetwork, cut before {' and '.join(self.at)}\n"
            f"  front: {_n_parameters(self.network) - followed.n_parameters:,} parameters\n"
            f"  z:     {len(z)} tensor{'s' * (len(z) > 1)}, {_memory_of(z)}\n{''.join(parts)}"
            f"  rear:  {len(followed.calls)} calls of torch, {followed.n_parameters:,} parameters"
        )


@plainly
def split_network(
    network: nn.Module,
    at: int | str | Sequence[str] | None = None,
    hole_value: float | None = None,
    value_range: tuple[float, float] | None = None,
    multiple: int | None = None,
    moves: Sequence[str] | None = None,
) -> SplitNetwork:
    """Cuts a network in two, so that the featuremap between can be optimized. It freezes the network's weights.

    Args:
        network: any module that takes one tensor (B, 4, H, W), image and mask, to (B, 3, H, W).
        at: where the rear begins. For a list of layers (``nn.Sequential``, ``LamaGenerator``, ``AOTGenerator``) this is the
            index or the name of a layer; 0 is before all, ``len(layers)`` behind all. For any other network, or a layer within
            a layer, it is a name as in ``network.named_modules()``, or several names. z is then whatever crosses the cut before
            them, skip connections included. Picture and mask, where they go around the weights, stay as they are. None asks
            the network for its ``first_block``, which is the paper's choice for LaMa: before the first residual block.
        hole_value: what the network sees in the hole, in the network's own range. None asks the network, else 0.
        value_range: of the network's image, in and out. None asks the network, else (0, 1).
        multiple: height and width are padded to a multiple of this many pixels by reflection at the right and the bottom, and
            the prediction is cropped, 1 to 512. None asks the network (8 for LaMa, 4 for AOT-GAN), else 1.
        moves: names of layers, for a cut at named layers: of what crosses it only what these have made is z, and the rest stays
            as it is. None asks the network, else all is z.

    Returns:
        A model with ``front(image, mask)``, ``rear(z)``, and ``model(image, mask)`` for both.

    Raises:
        TypeError: where the network is no module, or its weights are neither float32 nor float64.
        ValueError: where there is no such layer, the cut is none, or the layers cannot be seen, as those of TorchScript. Or
            where small pictures show that the network fails, does not return a picture of the same size, has side effects,
            or breaks the gradient. One that needs a larger ``multiple`` is told which. A network of this package that takes
            multiples over 128, or looks at all pictures as large ones, is not tried, since that takes long; its weights must be
            finite.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        >>> split_network(network, at=2)
        SplitNetwork, cut before layer 2 (Conv2d)
          front: 2 layers, 296 parameters
          z:     8 x H x W, 32 MB for 1024 x 1024 px
          rear:  1 layers, 219 parameters

    Source: the front and rear of Algorithm 1; for LaMa the cut of the authors' code.
    """
    check_network(network)

    def said(name: str, given: Any, default: Any) -> Any:
        return getattr(network, name, default) if given is None else given

    colors, hole = said("value_range", value_range, (0.0, 1.0)), said("hole_value", hole_value, 0.0)
    try:
        (low, high), hole_is = map(float, colors), float(hole)
        are_numbers = low < high and all(abs(number) < LARGEST_NUMBER for number in (low, high, hole_is))
    except (TypeError, ValueError, OverflowError):
        are_numbers = False
    if not are_numbers:
        wanted = "expected (low, high) with low below high, and a number"
        raise ValueError(f"value_range is {colors!r} and hole_value {hole!r}; {wanted}")
    side = said("multiple", multiple, 1)
    if isinstance(side, bool) or not isinstance(side, numbers.Integral) or not 1 <= int(side) <= LARGEST_MULTIPLE:
        raise ValueError(f"multiple is {side!r}; expected a whole number of pixels, 1 to {LARGEST_MULTIPLE}")
    convention = hole_is, (low, high), int(side)

    layers = _layers_of(network)
    place = _place_of(network, layers, said("first_block", at, None))
    if isinstance(place, int):
        model = SplitNetwork(layers, place, *convention)
    else:
        moves = said("moves", moves, None)
        moved = None if moves is None else _names_of(network, moves, "moves")
        model = NamedSplitNetwork(network, place, *convention, moves=moved)
    if model.least_px > LARGEST_TRIED and type(network) in {architecture.network for architecture in ARCHITECTURES}:
        check_weights(model)
        return model
    check_repeatable(model)
    if isinstance(model, NamedSplitNetwork):
        check_followed(model)
    check_gradient(model)
    return model


def _named(image):
    return named(f"on a picture of {image.shape[-2]} x {image.shape[-1]} px")


def _layers_of(network) -> Any:
    """The layers of a network that is a list of them, as an ``nn.Sequential``; None for another."""
    if isinstance(getattr(network, "first_block", None), int) and isinstance(getattr(network, "layers", None), nn.Sequential):
        return network.layers
    is_list = isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward
    return network if is_list else None


def _place_of(network, layers, at) -> Any:
    """The index of a layer in a list of layers, or else the names, as a tuple, of layers within the network."""
    if layers is not None and isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= len(layers):
        return at
    if not isinstance(at, str | list | tuple):
        index = "" if layers is None else f"the index of a layer, 0 to {len(layers)}, or "
        raise ValueError(f"at is {at!r}; expected {index}the name of a layer, or several names")
    if layers is not None and isinstance(at, str):
        layer = dict([*layers.named_modules(remove_duplicate=False), *network.named_modules(remove_duplicate=False)]).get(at)
        if layer in list(layers):
            return list(layers).index(layer)
    return _names_of(network, at, "at")


def _names_of(network, given, argument) -> tuple[str, ...]:
    """Names of layers within the network, as a tuple; raises where there are no such layers."""
    known = dict(network.named_modules(remove_duplicate=False))
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str) or not name or name not in known:
            near = difflib.get_close_matches(str(name), known) or [name for name, _ in network.named_children()]
            raise ValueError(f"{argument} is {name!r}; expected the name of a layer, for instance {', '.join(near[:8])}")
    if not names:
        raise ValueError(f"{argument} is empty; expected the name of a layer, or several")
    return names


def _n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def _memory_of(z):
    """The memory of z in words, for a picture of a megapixel."""
    return f"{z.nbytes * (1024 / z.size[1]) ** 2 / 2**20:.0f} MB for 1024 x 1024 px"


def pad(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """A picture padded to a multiple of so many pixels, at the right and the bottom, by reflection."""
    down, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if down >= x.shape[-2] or right >= x.shape[-1]:
        size = " x ".join(map(str, x.shape[-2:]))
        raise ValueError(f"image is {size} px, too small to be padded to a multiple of {multiple} by reflection")
    return F.pad(x, (0, right, 0, down), mode="reflect")
