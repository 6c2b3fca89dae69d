"""Small networks of every kind, cut anywhere: each is refined, or refused in our own words before any work is done."""

import functools
import random
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import refine_lib
from refine_lib import multiscale_inpaint, split_network

LIBRARY = Path(refine_lib.__file__).parent
Case = tuple[str, Callable[[], nn.Module], dict[str, dict[str, Any]]]

NORMS = {
    "none": nn.Identity,
    "batch": nn.BatchNorm2d,
    "batch without factors": functools.partial(nn.BatchNorm2d, affine=False),
    "batch without statistics": functools.partial(nn.BatchNorm2d, track_running_stats=False),
    "instance": nn.InstanceNorm2d,
    "group": functools.partial(nn.GroupNorm, 2),
    "local response": lambda width: nn.LocalResponseNorm(2),
}
ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu in place": functools.partial(nn.ReLU, inplace=True),
    "leaky in place": functools.partial(nn.LeakyReLU, 0.2, inplace=True),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu in place": functools.partial(nn.ELU, inplace=True),
    "tanh": nn.Tanh,
    "dropout": nn.Dropout2d,
    "none": nn.Identity,
}
PADDINGS = ("zeros", "reflect", "replicate", "circular")
UPSAMPLINGS = ("nearest", "bilinear", "transposed", "shuffle", "to size")
JOINS = ("cat", "add", "in place", "none")


def cases(rng: random.Random) -> Iterator[Case]:
    """Cases without end, as ``(name, build, arguments)``: ``build()`` makes the same network each time."""
    while True:
        kind = rng.choice([_chain, _unet, _unet, _mixed])
        network, at = kind(rng)
        split = {"at": at(rng)}
        if rng.random() < 0.5:
            split["multiple"] = rng.choice([1, 2, 3, 4, 8, 16, 32, 64, 100])
        if rng.random() < 0.2:
            split |= {"value_range": rng.choice([(-1, 1), (0, 255)]), "hole_value": rng.choice([0, 0.5, 1])}
        run = dict(
            smallest_scale=rng.randint(16, 48),
            n_iters=rng.randint(0, 3),
            erosion=rng.choice([0, 1, 3, 7]),
            loss=rng.choice(["paper", "code"]),
            optimizer=rng.choice(["adam", "polyak"]),
            speed=rng.choice(["auto", "auto", "exact", "mixed"]),
        )
        picture = dict(height=rng.randint(16, 110), width=rng.randint(16, 110), batch=rng.choice([1, 1, 2]))
        picture |= dict(
            seed=rng.randrange(1000), double=rng.random() < 0.3, hole=rng.choice(["box", "all", "corner", "pixels"])
        )
        build = functools.partial(_built, network, rng.randrange(10**6), picture["double"])
        yield f"{kind.__name__[1:]} {split} {picture}", build, {"split": split, "run": run, "picture": picture}


def try_case(name: str, build: Callable[[], nn.Module], arguments: dict[str, dict[str, Any]]) -> str:
    """Tries a case. Where the refusal names a multiple, that is tried as well, and must do.

    Returns:
        ``"refined"``, or the words by which the network was refused.

    Raises:
        AssertionError: where it came to anything else.
    """
    image, mask = _picture(**arguments["picture"])
    steps = []
    with warnings.catch_warnings(action="ignore"):
        try:
            model = split_network(build(), **arguments["split"])
            result = multiscale_inpaint(image, mask, model, **arguments["run"], progress=False, callback=steps.append)
        except (TypeError, ValueError, FloatingPointError) as error:
            raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
            assert raised_in.is_relative_to(LIBRARY), f"{name}: another's words: {error!r}"
            # A layer that fails at sizes of its own, by a KeyError, can be met at any level.
            late = isinstance(error, FloatingPointError) or isinstance(error.__cause__, KeyError)
            assert not steps or late, f"{name}: refused after {steps[-1]}: {error}"
            advice = re.search(r"works: give multiple=(\d+)$", str(error))
            if advice:
                advised = arguments["split"] | {"multiple": int(advice[1])}
                told = try_case(name, build, arguments | {"split": advised})
                assert "works: give multiple" not in told, f"{name}: {error}, and then: {told}"
                return told
            return str(error)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r} after {len(steps)} steps") from error
    known = (mask == 0).expand_as(image)
    assert result.image.shape == image.shape and result.image.dtype == image.dtype, name
    assert torch.equal(result.image[known], image[known]), f"{name}: known pixels changed"
    assert result.image.isfinite().all(), f"{name}: not finite"
    return "refined"


def _built(network, seed, double):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = network()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return made.double() if double else made


def _picture(height, width, batch, seed, double, hole):
    generator = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.rand(batch, 3, 6, 6, generator=generator), (height, width), mode="bilinear")
    mask = torch.zeros(batch, 1, height, width)
    if hole == "box":
        mask[..., height // 4 : height // 2 + 2, width // 5 : width // 2 + 3] = 1
    elif hole == "all":
        mask += 1
    elif hole == "corner":
        mask[..., -height // 3 :, -width // 3 :] = 1
    else:
        mask = (torch.rand(mask.shape, generator=generator) < 0.3).float()
    return (image.double(), mask.double()) if double else (image, mask)


def _convolution(rng, n_in, n_out, stride=1):
    """A function that makes a convolution, a norm and an activation."""
    size, padding = rng.choice([1, 3, 3, 5, 7]), rng.choice(PADDINGS)
    norm, activation = NORMS[rng.choices(list(NORMS), [6, 6, 1, 0.3, 2, 2, 1])[0]], ACTIVATIONS[rng.choice(list(ACTIVATIONS))]
    dilation = rng.choice([1, 1, 1, 2])
    around = rng.choice([None] * 8 + [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])

    def make():
        options = dict(stride=stride, padding=dilation * (size // 2), dilation=dilation, padding_mode=padding)
        convolution = nn.Conv2d(n_in, n_out, size, **options)
        return nn.Sequential(around(convolution) if around else convolution, norm(n_out), activation())

    return make


def _end(rng, n_in):
    size, last = rng.choice([1, 3, 7]), rng.choice([nn.Sigmoid, nn.Sigmoid, nn.Tanh, nn.Identity])
    return lambda: nn.Sequential(nn.Conv2d(n_in, 3, size, padding=size // 2), last())


class _Enlarging(nn.Module):
    def __init__(self, kind, width):
        super().__init__()
        self.kind = kind
        if kind == "transposed":
            self.layer = nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        elif kind == "shuffle":
            self.layer = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2))

    def forward(self, x, size=None):
        if self.kind in ("transposed", "shuffle"):
            return self.layer(x)
        options = {"size": size} if self.kind == "to size" and size else {"scale_factor": 2}
        return F.interpolate(x, **options, mode="bilinear" if self.kind == "bilinear" else "nearest")


def _chain(rng):
    """A list of layers, some of which halve and double."""
    width, n, halvings, kind = 2 * rng.randint(1, 4), rng.randint(0, 4), rng.randint(0, 3), rng.choice(UPSAMPLINGS)
    makes = [_convolution(rng, 4, width)]
    makes += [_convolution(rng, width, width, stride=2) for _ in range(halvings)]
    makes += [_convolution(rng, width, width) for _ in range(n)]
    makes += [functools.partial(_Enlarging, kind, width) for _ in range(halvings)]
    end, is_flat = _end(rng, width), rng.random() < 0.5

    def network():
        layers = [make() for make in [*makes, end]]
        return nn.Sequential(
            *(inner for layer in layers for inner in (layer if is_flat and type(layer) is nn.Sequential else [layer]))
        )

    def at(rng):
        return rng.choice([rng.randint(0, len(makes) + 1), f"{rng.randint(0, len(makes))}", f"{rng.randint(0, len(makes))}.0"])

    return network, at


class _UNet(nn.Module):
    def __init__(self, first, down, up, enlarging, join, end):
        super().__init__()
        self.first = first()
        self.down, self.up = nn.ModuleList(make() for make in down), nn.ModuleList(make() for make in up)
        self.enlarging, self.join, self.end = nn.ModuleList(make() for make in enlarging), join, end()

    def forward(self, x):
        x = self.first(x)
        seen = []
        for down in self.down:
            seen.append(x)
            x = down(x)
        for enlarging, up in zip(self.enlarging, self.up, strict=True):
            skip = seen.pop()
            x = enlarging(x, skip.shape[-2:])
            if self.join == "cat":
                x = torch.cat([x, skip], dim=1)
            elif self.join == "in place":
                x += skip
            elif self.join == "add":
                x = x + skip
            x = up(x)
        return self.end(x)


def _unet(rng):
    """A U-Net of a random depth, so that it takes multiples of 2**depth; where it enlarges to a size, of 1."""
    width, depth, join, kind = 2 * rng.randint(1, 3), rng.randint(1, 6), rng.choice(JOINS), rng.choice(UPSAMPLINGS)
    down = [_convolution(rng, width, width, stride=2) for _ in range(depth)]
    up = [_convolution(rng, width * (1 + (join == "cat")), width) for _ in range(depth)]
    first, end, enlarging = _convolution(rng, 4, width), _end(rng, width), [functools.partial(_Enlarging, kind, width)] * depth

    def at(rng):
        names = ["first", "down.0", f"down.{depth - 1}", "up.0", f"up.{depth - 1}", "enlarging.0", "end", "end.0", "up.0.0"]
        return rng.choice([rng.choice(names), tuple(rng.sample(names, 2))])

    return functools.partial(_UNet, first, down, up, enlarging, join, end), at


class _Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        small = F.adaptive_avg_pool2d(x, 8)
        tokens = small.flatten(2).transpose(1, 2)
        seen = self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(small.shape)
        return x + F.interpolate(seen, x.shape[-2:])


class _Fourier(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Conv2d(2 * width, 2 * width, 1)

    def forward(self, x):
        spectrum = torch.fft.rfft2(x, norm="ortho")
        mixed = self.mix(torch.cat([spectrum.real, spectrum.imag], dim=1))
        return x + torch.fft.irfft2(torch.complex(*mixed.chunk(2, dim=1)), s=x.shape[-2:], norm="ortho")


class _Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Conv2d(width, 2 * width, 3, padding=1)

    def forward(self, x):
        values, gate = self.layer(x).chunk(2, dim=1)
        return values.mul_(gate.sigmoid())


class _Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return x * self.layer(x.mean(dim=(2, 3))).sigmoid()[..., None, None]


class _Windows(nn.Module):
    """Mixes within windows, which must be whole."""

    def __init__(self, width, side=4):
        super().__init__()
        self.layer, self.side = nn.Linear(side * side, side * side), side

    def forward(self, x):
        tokens = F.unfold(x, self.side, stride=self.side).unflatten(1, (x.shape[1], -1))
        return F.fold(self.layer(tokens.mT).mT.flatten(1, 2), x.shape[-2:], self.side, stride=self.side)


class _Grid(nn.Module):
    """Adds where a pixel is, kept from the last picture of the same size."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("grid", torch.zeros(1, 1, 1, 1), persistent=False)

    def forward(self, x):
        if self.grid.shape[-2:] != x.shape[-2:]:
            self.grid = torch.linspace(0, 1, x.shape[-1]).to(x).expand(1, 1, *x.shape[-2:])
        return x + self.grid


class _Counts(nn.Module):
    """Has a side effect."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count += 1
        return x


class _Table(nn.Module):
    """Knows one size alone."""

    def __init__(self, width):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, width, 64, 64))

    def forward(self, x):
        return x + self.table


class _Odd(nn.Module):
    """Fails at some sizes for no reason."""

    def __init__(self, width):
        super().__init__()

    def forward(self, x):
        if x.shape[-1] % 7 == 3:
            raise KeyError(x.shape)
        return x


class _Calls(nn.Module):
    """A function of its input, which has no weights."""

    def __init__(self, function, width):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


FUNCTIONS = {
    "detach": torch.Tensor.detach,
    "noise": lambda x: x + torch.randn_like(x),
    "round": torch.round,
    "complex": lambda x: torch.fft.fft2(x),
    "half": lambda x: x.half().to(x.dtype),
    "bytes": lambda x: (x * 255).byte(),
    "sort": lambda x: x.sort(dim=-1).values,
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=False),
    "function": _Reversible.apply,
    "in place": lambda x: x.mul_(0.5),
    "numpy": lambda x: x + float(x.detach().numpy().mean()),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "no gradients": torch.no_grad()(lambda x: x * 1),
    "inference": torch.inference_mode()(lambda x: x * 1),
    "autocast": torch.autocast("cpu", torch.bfloat16)(lambda x: x @ x.mT @ x),
    "tuple": lambda x: (x, x),
    "branch": lambda x: x if x.mean() > 0 else -x,
    "infinite": lambda x: x / 0,
    "crop": lambda x: x[..., 1:, 1:],
    "pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "pool": lambda x: F.interpolate(F.max_pool2d(x, 2), x.shape[-2:]),
    "dropout": F.dropout,
    "batch statistics": lambda x: F.batch_norm(x, None, None, training=True),
}
PARTS = (_Attention, _Fourier, _Gate, _Squeeze, _Windows, _Grid, _Counts, _Table, _Odd)


class _Residual(nn.Module):
    def __init__(self, first, parts, end, shares):
        super().__init__()
        self.first, self.parts, self.end = first(), nn.ModuleList(make() for make in parts), end()
        if shares:
            self.parts.append(self.parts[0])

    def forward(self, x):
        x = self.first(x)
        for part in self.parts:
            x = part(x)
        return self.end(x)


def _mixed(rng):
    """Layers that do more than convolve, between two convolutions."""
    width, parts = 2 * rng.randint(1, 4), []
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["part", "part", "function", "convolution"])
        if kind == "part":
            parts.append(functools.partial(rng.choice(PARTS), width))
        elif kind == "function":
            parts.append(functools.partial(_Calls, FUNCTIONS[rng.choice(list(FUNCTIONS))], width))
        else:
            parts.append(_convolution(rng, width, width))
    network = functools.partial(_Residual, _convolution(rng, 4, width), parts, _end(rng, width), rng.random() < 0.2)

    def at(rng):
        return rng.choice(["first", "first.0", "parts.0", f"parts.{len(parts) - 1}", "end", "end.1", "parts", "nothing"])

    return network, at
