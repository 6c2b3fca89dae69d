"""Batch norms folded into the convolutions before them: in eval mode a batch norm is a factor and a shift of each channel."""

import copy
from typing import TypeVar

import torch
from torch import nn

from refine_lib.networks.lama import FourierLayer, FourierUnit

Network = TypeVar("Network", bound=nn.Module)


def folded(model: Network) -> Network:
    """The network with its batch norms folded into the convolutions before them.

    The answer is the same but for rounding (float64: 1e-12 of it). The weights are folded in float64, since the variances of
    published weights reach millions.

    Args:
        model: a split network, or layers of one. A batch norm stays unless it stands right behind a convolution, on the same
            side of the cut.

    Returns:
        A copy; the given one is left as it is.
    """
    model = copy.deepcopy(model)
    at, layers = getattr(model, "at", None), getattr(model, "layers", ())
    cut = layers[at] if at is not None and at < len(layers) else None
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for (_, first), (name, second) in zip(
                list(module.named_children()), list(module.named_children())[1:], strict=False
            ):
                if can_fold(first, second) and second is not cut:
                    _fold(module, name, first)
        elif isinstance(module, FourierUnit):
            _fold(module, "bn", module.conv_layer)
        elif isinstance(module, FourierLayer):
            ffc = module.ffc
            _fold(module, "bn_l", ffc.convl2l, *([ffc.convg2l] if hasattr(ffc, "convg2l") else []))
            if hasattr(module, "bn_g"):
                _fold(module, "bn_g", ffc.convl2g, *([ffc.convg2g.conv2] if hasattr(ffc, "convg2g") else []))
    return model


def can_fold(convolution: nn.Module, norm: nn.Module) -> bool:
    """Whether a batch norm, and nothing else, changes what a convolution gives, and both have weights to be folded."""
    plain = type(convolution) in (nn.Conv2d, nn.ConvTranspose2d) and type(norm) is nn.BatchNorm2d
    if not plain or convolution._forward_pre_hooks or convolution._forward_hooks:
        return False
    is_grouped = isinstance(convolution, nn.ConvTranspose2d) and convolution.groups > 1
    return norm.weight is not None and norm.running_var is not None and not is_grouped


@torch.no_grad()
def _fold(module, name, convolution, *others):
    """Folds a module's batch norm into convolutions whose sum it sees; the first of them takes its shift as well."""
    norm = getattr(module, name)
    if isinstance(norm, nn.Identity):
        return
    weight, bias, mean, variance = (t.cpu().double() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    factor = weight / (variance + norm.eps).sqrt()
    shift = bias - mean * factor
    if convolution.bias is not None:
        shift += convolution.bias.cpu().double() * factor
    for one in (convolution, *others):
        shape = (1, -1, 1, 1) if isinstance(one, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        one.weight.copy_(one.weight.cpu().double() * factor.view(shape))
    convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)
    setattr(module, name, nn.Identity())
