"""A wider generator that computes what a narrower one does: the start of a training that need not begin from nothing.

Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer" (2016): channels are there twice, and what
comes from them is shared out. The shares are random, or both would get the same gradients and stay alike for ever.
"""

import torch

from refine_lib.networks.lama import LamaGenerator

LEAST_SHARE = 0.2  # of what one of two equal channels adds, so that neither is without use


def widen(network, ngf, seed=0):
    """A ``LamaGenerator`` with more channels that gives the same pictures.

    Args:
        network: the narrower ``LamaGenerator``.
        ngf: of the wider one, up to twice that of the narrower.
        seed: of the shares.

    Returns:
        The wider one, on the CPU.

    Raises:
        ValueError: where ``ngf`` is not between the narrower one's and twice that.
    """
    if not network.ngf <= ngf <= 2 * network.ngf:
        raise ValueError(f"ngf is {ngf}; expected {network.ngf} to {2 * network.ngf}, for a network of {network.ngf} channels")
    wide = LamaGenerator(ngf, network.n_blocks, network.ratio)
    old, new, random = network.state_dict(), wide.state_dict(), torch.Generator().manual_seed(seed)
    transposed = {f"model.{i}.weight" for i, layer in enumerate(wide.model) if isinstance(layer, torch.nn.ConvTranspose2d)}
    joined = min(transposed, key=lambda name: int(name.split(".")[1]))  # the layer that sees local and global channels as one
    n_local = [len(state["model.4.bn_l.weight"]) for state in (old, new)]
    for name, value in new.items():
        was, axis_in = old[name].cpu(), 0 if name in transposed else 1
        for axis in range(min(value.ndim, 2)):
            parts = n_local if name == joined and axis == axis_in else None
            source = _sources(value.shape[axis], was.shape[axis], parts)
            was = was.index_select(axis, source)
            if value.ndim == 4 and axis == axis_in:
                was = was * _shares(source, was.shape, axis, random)
        new[name] = was
    wide.load_state_dict(new)
    return wide


def _sources(n, n_before, local=None):
    """Which channel of the narrower network each of the wider one's repeats: they begin anew behind the last one.

    Real and imaginary parts lie beside each other, so that a repeated spectrum is the spectrum of a repeated channel. Where
    local and global channels are one, ``local`` says how many of both are local: each kind begins anew by itself.
    """
    if local is None or local[0] == n_before:
        return torch.arange(n) % n_before
    before, now = local
    return torch.cat([torch.arange(now) % before, before + torch.arange(n - now) % (n_before - before)])


def _shares(source, shape, axis, random):
    """How much of a weight goes to each of the channels that are alike: numbers of a weight's shape that sum to 1."""
    drawn = LEAST_SHARE + (1 - 2 * LEAST_SHARE) * torch.rand([*shape[:2], 1, 1], generator=random)
    total = torch.zeros_like(drawn).index_add(axis, source, drawn).index_select(axis, source)
    return drawn / total
