"""What a device can do at its best, what a computation asks of it, and the seconds that each of its parts takes."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, shape_wrapper


class Timed:
    """A split network that counts the seconds of its parts."""

    def __init__(self, model):
        self.model, self.network_input = model, model.network_input
        self.parameters, self.multiple = model.parameters, model.multiple
        self.device = next(model.parameters()).device
        self.seconds = dict.fromkeys(("front", "rear", "gradient"), 0.0)

    def __call__(self, image, mask):
        return self.rear(self.front(image, mask))

    def front(self, image, mask):
        with _Stopwatch(self, "front"):
            return self.model.front(image, mask)

    def rear(self, z):
        with _Stopwatch(self, "rear"):
            prediction = self.model.rear(z)
        if prediction.requires_grad:
            self._count_gradient(prediction, z)
        return prediction

    def _count_gradient(self, prediction, z):
        """The seconds from when the gradient begins to go through the rear to when the last tensor of z has its own."""
        stopwatch, left, hooks = _Stopwatch(self, "gradient"), {id(t) for t in z}, []

        def arrived(t):
            left.discard(id(t))
            if not left:
                stopwatch.__exit__()
                for hook in hooks:
                    hook.remove()

        prediction.register_hook(lambda _: stopwatch.__enter__())
        hooks += [t.register_post_accumulate_grad_hook(arrived) for t in z if t.is_leaf]


class _Stopwatch:
    def __init__(self, timed, part):
        self.timed, self.part = timed, part

    def __enter__(self):
        wait_for(self.timed.device)
        self.started = time.perf_counter()

    def __exit__(self, *_):
        wait_for(self.timed.device)
        self.timed.seconds[self.part] += time.perf_counter() - self.started


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Machine:
    """What a device can do at the best: operations a second in float32, in a product of matrices or a convolution, whichever is
    the faster, and bytes a second in a copy."""

    flops_per_second: float
    bytes_per_second: float

    @classmethod
    def measured(cls, device):
        size = 8192 if device.type == "cuda" else 2048
        a, b = torch.rand(2, size, size, device=device)
        source, target = torch.rand(2, 2**26, device=device)
        picture, weight = torch.rand(1, 256, size // 32, size // 32, device=device), torch.rand(256, 256, 3, 3, device=device)
        picture, weight = (t.contiguous(memory_format=torch.channels_last) for t in (picture, weight))
        calls = lambda: a @ b, lambda: F.conv2d(picture, weight), lambda: target.copy_(source)
        product, convolution, copy = (fastest(call, device, n=25) for call in calls)
        n_products = 256 * 256 * 9 * (size // 32 - 2) ** 2
        return cls(max(2 * size**3 / product, 2 * n_products / convolution), 2 * source.nbytes / copy)

    def least_seconds(self, flops, traffic):
        return max(flops / self.flops_per_second, traffic / self.bytes_per_second)


def timed(call, device):
    """What a function without arguments returns, and its seconds."""
    wait_for(device)
    started = time.perf_counter()
    result = call()
    wait_for(device)
    return result, time.perf_counter() - started


def fastest(call, device, n=7):
    return min(timed(call, device)[1] for _ in range(n))


class Work(TorchDispatchMode):
    """Counts what convolutions, matrix products and Fourier transforms need: ``flops``, and ``traffic``, bytes in and out."""

    def __init__(self):
        super().__init__()
        self.flops = self.traffic = 0

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        with self:
            output = call.decompose(*args, **(kwargs or {}))  # of what is made of others those are counted
        if output is not NotImplemented:
            return output
        output = call(*args, **(kwargs or {}))
        count = COUNTS.get(call.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=output)
            self.traffic += sum(t.nbytes for t in tree_leaves((args, output)) if isinstance(t, torch.Tensor))
        return output


@shape_wrapper
def _fft_flops(shape, *_, out_shape=None, **__):
    """2.5 N log2 N operations for a transform of N real numbers, the usual count, in two dimensions."""
    *channels, height, width = max(shape, out_shape)  # the real side is the wider
    n = height * width
    return round(2.5 * n * np.log2(n) * np.prod(channels))


@shape_wrapper
def _linear_flops(x_shape, weight_shape, *_, **__):
    return 2 * math.prod(x_shape) * weight_shape[0]


@shape_wrapper
def _convolution_flops(x_shape, weight_shape, *_, out_shape=None, **__):
    return conv_flop_count(x_shape, weight_shape, out_shape)


aten = torch.ops.aten
COUNTS = dict(flop_registry) | dict.fromkeys((aten._fft_r2c, aten._fft_c2r), _fft_flops)
COUNTS |= {aten.addmm_: flop_registry[aten.addmm], aten.mkldnn_convolution: _convolution_flops}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not in every build of torch
    COUNTS[torch.ops.mkldnn._linear_pointwise] = _linear_flops


def line_of(x, y):
    """The line that is nearest in proportion to points: its start at x = 0, its slope, and the most that a point is off it."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    terms = np.stack([1 / y, x / y], axis=1)
    (start, slope), *_ = np.linalg.lstsq(terms, np.ones(len(x)), rcond=None)
    return float(start), float(slope), float(np.abs(terms @ (start, slope) - 1).max())
