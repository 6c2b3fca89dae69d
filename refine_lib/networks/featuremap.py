"""z: what crosses the cut of a network, and what refinement moves."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import torch

from refine_lib.networks.trace import Record


class Featuremap(tuple[torch.Tensor, ...]):
    """z: the tensors that cross the cut, and what is known of the picture that they stand for.

    A LaMa generator cut at its blocks has two tensors, local (B, C1, H/8, W/8) and global (B, C2, H/8, W/8). A cut of another
    list of layers has one, and a cut at named layers has as many as cross it.

    Attributes:
        size: of the picture, (H, W) in pixels. None stands for the picture with the network's padding.
        record: what a network that is no list of layers does behind the cut, for a picture of this size.
        box: the part that the rear is asked for, where that is not all: slices of the rows and the columns of the tensors.
    """

    size: tuple[int, int] | None
    record: Record | None
    box: tuple[slice, slice] | None

    def __new__(cls, tensors: Iterable[torch.Tensor], size: Sequence[int] | None = None, record=None, box=None):
        self = super().__new__(cls, tensors)
        self.size = None if size is None else (size[0], size[1])
        self.record, self.box = record, box
        return self

    def __getnewargs__(self):
        return tuple(self), self.size, self.record, self.box

    @property
    def nbytes(self) -> int:
        """Memory of the tensors, in bytes."""
        return sum(t.nbytes for t in self)

    def __repr__(self):
        shapes = ", ".join(str(tuple(t.shape)) for t in self)
        return f"Featuremap({shapes}; {self.nbytes / 2**20:.1f} MB)"


def as_leaves(z: torch.Tensor | Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | Featuremap]:
    """A copy of z that an optimizer can move.

    Returns:
        Its tensors, detached and with gradients, as a list; and z made of them. That z does not know the picture's size, so
        that the rear keeps the network's padding.
    """
    leaves = [t.detach().clone().requires_grad_() for t in ((z,) if isinstance(z, torch.Tensor) else z)]
    return leaves, in_place_of(z, leaves)


def in_place_of(z: torch.Tensor | Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> torch.Tensor | Featuremap:
    """Other tensors in the place of z's, for the rear."""
    if isinstance(z, torch.Tensor):
        return tensors[0]
    return Featuremap(tensors, record=getattr(z, "record", None), box=getattr(z, "box", None))


def shapes_of(z: Featuremap) -> list[str]:
    """The shapes of z's tensors in shares of the picture, as ``32 x H/8 x W/8``. z must know the picture's size."""

    def share(n, full, name):
        part = Fraction(n, full)
        return name if part == 1 else f"{name}/{part.denominator}" if part.numerator == 1 else f"{part} {name}"

    return [f"{t.shape[1]} x " + " x ".join(map(share, t.shape[-2:], z.size or (), "HW")) for t in z]
