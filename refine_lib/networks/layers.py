"""What each layer of a split network gives for a picture."""

import contextlib
from dataclasses import dataclass

import torch

from refine_lib.networks.split import NamedSplitNetwork, SplitNetwork
from refine_lib.networks.trace import tensors_in


@dataclass(frozen=True)
class Layer:
    """What a layer of a network gives for a picture: the shapes of its tensors, and their memory in bytes."""

    index: int
    name: str
    shapes: tuple[tuple[int, ...], ...]
    nbytes: int

    def __str__(self):
        shapes = " + ".join(" x ".join(map(str, shape[1:])) for shape in self.shapes)
        return f"{self.index:2}  {self.name:19} {shapes:31} {self.nbytes / 2**20:5.1f} MB"


@torch.no_grad()
def trace(model: SplitNetwork, image: torch.Tensor, mask: torch.Tensor) -> list[Layer]:
    """Runs a split network and tells what each of its layers gives.

    Args:
        model: a ``SplitNetwork``.
        image, mask: as in ``SplitNetwork.front``.

    Returns:
        The layers in the order in which they run. For a list of layers these are its own. For another network these are the
        layers that have no layers within.
    """
    found = []

    def hook(layer, args, output):
        tensors = tensors_in(output)
        shapes = tuple(tuple(t.shape) for t in tensors)
        found.append(Layer(len(found), names[layer], shapes, sum(t.nbytes for t in tensors)))

    if isinstance(model, NamedSplitNetwork):
        names = {layer: name for name, layer in model.network.named_modules() if not list(layer.children())}
    else:
        names = {layer: type(layer).__name__ for layer in model.layers}
    with contextlib.ExitStack() as stack:
        for layer in names:
            stack.callback(layer.register_forward_hook(hook).remove)
        model(image, mask)
    return found
