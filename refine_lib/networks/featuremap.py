"""z: what crosses the cut of a network, and what refinement moves."""

from fractions import Fraction

import torch


class Featuremap(tuple):
    """z: the tensors that cross the cut, and the ``size`` (H, W) of the picture that they stand for.

    A LaMa generator cut at its blocks has two, local (B, C1, H/8, W/8) and global (B, C2, H/8, W/8); a cut of another list of
    layers has one, a cut at named layers as many as cross it. Size None stands for the picture with the network's padding.
    ``box`` is the part that the rear is asked for, where that is not all: slices of the rows and columns of the tensors.
    """

    def __new__(cls, tensors, size=None, record=None, box=None):
        self = super().__new__(cls, tensors)
        self.box = box
        self.size = None if size is None else tuple(size)
        self.record = record  # of what a network that is no list of layers does behind the cut, at this size
        return self

    def __getnewargs__(self):
        return tuple(self), self.size, self.record, self.box

    @property
    def nbytes(self):
        """Memory of the tensors, in bytes."""
        return sum(t.nbytes for t in self)

    def __repr__(self):
        shapes = ", ".join(str(tuple(t.shape)) for t in self)
        return f"Featuremap({shapes}; {self.nbytes / 2**20:.1f} MB)"


def as_leaves(z):
    """A copy of z that an optimiser can move: its tensors, detached and with gradients, as a list; and z made of them.

    The z that comes back does not know the picture's size: the rear then keeps the network's padding.
    """
    leaves = [t.detach().clone().requires_grad_() for t in ((z,) if isinstance(z, torch.Tensor) else z)]
    return leaves, in_place_of(z, leaves)


def in_place_of(z, tensors):
    """Other tensors in the place of z's, for the rear."""
    if isinstance(z, torch.Tensor):
        return tensors[0]
    return Featuremap(tensors, record=getattr(z, "record", None), box=getattr(z, "box", None))


def shapes_of(z):
    """Shapes in shares of the picture, as ``32 x H/8 x W/8``."""

    def share(n, full, name):
        part = Fraction(n, full)
        return name if part == 1 else f"{name}/{part.denominator}" if part.numerator == 1 else f"{part} {name}"

    return [f"{t.shape[1]} x " + " x ".join(map(share, t.shape[-2:], z.size, "HW")) for t in z]
