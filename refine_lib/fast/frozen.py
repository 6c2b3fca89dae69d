"""What networks whose weights are frozen are made with: without batch norms, and with a gradient of their own."""

import torch
from torch import nn


class Frozen(nn.Module):
    """A module whose tensors and modules stay what they are, and so are plain attributes as well: a module looks up its own
    ones in half a microsecond each, and a small picture's refinement does little but such things."""

    def at_hand(self):
        """To be called when all of them are there."""
        self.__dict__.update(self._buffers | self._modules)

    def _apply(self, function, recurse=True):
        super()._apply(function, recurse)
        self.at_hand()
        return self


@torch.no_grad()
def factor_and_shift(norm):
    """What a batch norm multiplies and adds in eval mode, in float64, on the CPU: the variances of published weights reach
    millions, and not every device has float64."""
    weight, bias, mean, variance = (t.cpu().double() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    factor = weight / (variance + norm.eps).sqrt()
    return factor, bias - mean * factor


@torch.no_grad()
def without_norm(weight, factor, shift, dtype):
    """The weight and the bias of a convolution that does what one did with a batch norm behind it; of a 1x1 one a matrix."""
    folded = weight.cpu().double() * factor.view(-1, *[1] * (weight.ndim - 1))
    folded = folded.flatten(1) if folded.shape[2:] == (1, 1) else folded
    return tuple(t.to(dtype=dtype, device=weight.device) for t in (folded, shift))


def places(x):
    """What tells where a ReLU let through, from what it gave: a byte for each number; of numbers in two bytes themselves."""
    return x if x.element_size() == 2 else x.bool()  # of what is 0 or more this is > 0, in a fifth of the time


def where(x, passed):
    """x where a ReLU let through, as ``places`` tells, else 0."""
    if passed.dtype == torch.bool:
        return x * passed.view(torch.int8)  # a byte multiplies several times faster than a bool does on a CPU
    return torch.ops.aten.threshold_backward(x.to(passed.dtype), passed, 0)
