"""Wrappers that take a split network and return one with the same answer, that is faster or needs less memory."""

import copy

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from refine_lib.networks.lama import FourierLayer, FourierUnit
from refine_lib.split import NamedSplitNetwork, SplitNetwork


def folded(model):
    """The network with its batch norms folded into the convolutions before them: in eval mode each is a factor and a shift.

    The answer is the same but for rounding (float64: 1e-12 of it). The weights are folded in float64, since the variances of
    published weights reach millions.

    Args:
        model: a split network. A batch norm that does not stand right behind a convolution stays.

    Returns:
        Another split network; the given one is left as it is.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for first, second in zip(list(module), list(module)[1:], strict=False):
                if isinstance(first, nn.Conv2d | nn.ConvTranspose2d) and isinstance(second, nn.BatchNorm2d):
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


@torch.no_grad()
def _fold(norm, convolution, *others):
    """Multiplies convolutions, whose sum the norm sees, by its factor; the first one takes its shift as well."""
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * factor
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * factor
    for one in (convolution, *others):
        shape = (1, -1, 1, 1) if isinstance(one, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        one.weight.copy_(one.weight.double() * factor.view(shape))
    convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)
    norm.is_folded = True


def _drop_folded(module):
    for name, child in list(module.named_children()):
        if getattr(child, "is_folded", False):
            setattr(module, name, nn.Identity())


def checkpointed(model, n_segments):
    """The network with its rear in segments, of which only the ends are kept for the gradient; the rest is computed again.

    The answer is the same, bit for bit. The rear is run twice in an iteration; memory falls towards that of one segment.

    Args:
        model: a ``SplitNetwork`` that is a list of layers.
        n_segments: 1 or more; the layers of the rear are dealt out evenly.

    Returns:
        Another split network, which shares the weights of the given one.

    Raises:
        TypeError: where the network is not a list of layers.
        ValueError: where there are not as many layers.
    """
    if not isinstance(model, SplitNetwork) or isinstance(model, NamedSplitNetwork):
        raise TypeError(f"model is a {type(model).__name__}; expected a split network that is a list of layers")
    rear = list(model.layers[model.at :])
    if not isinstance(n_segments, int) or not 1 <= n_segments <= len(rear):
        raise ValueError(f"n_segments is {n_segments!r}; expected 1 to {len(rear)}, the layers of the rear")
    ends = [round(i * len(rear) / n_segments) for i in range(n_segments + 1)]
    segments = [Segment(*rear[start:end]) for start, end in zip(ends, ends[1:], strict=False)]
    layers = nn.Sequential(*model.layers[: model.at], *segments)
    return SplitNetwork(layers, model.at, model.hole_value, model.value_range, model.multiple)


class Segment(nn.Sequential):
    """Layers that are computed again when their gradient is asked for, in place of keeping what they computed."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=False)
