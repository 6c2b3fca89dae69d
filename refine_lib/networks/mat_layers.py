"""The layers of MAT: dense ones and convolutions that scale their weights as they run, styled ones, attention in windows."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BLUR = (0.125, 0.375, 0.375, 0.125)  # in each direction, where a size is halved or doubled
HEADS = 6
BLOCKED = -100.0  # is added to the score of a token that must not be looked at
Known = torch.Tensor | None  # the known pixels, or None where there is no mask any more


def lrelu(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU that keeps the variance: times the square root of 2."""
    return F.leaky_relu(x, 0.2) * 2**0.5


def blur(x, gain=1.0, up=1, padding=0):
    """Blurs each channel, after a zero was put behind every pixel where ``up`` is 2."""
    row = torch.tensor(BLUR, dtype=x.dtype, device=x.device)
    kernel = (gain * row[:, None] * row).expand(x.shape[1], 1, 4, 4)
    if up == 1:
        return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def _convolve(x, weight, scale):
    """A convolution that keeps the size (scale 1), halves it behind a blur (0.5), or doubles it before one (2)."""
    if scale == 0.5:
        return F.conv2d(blur(x, padding=2), weight, stride=2)
    if scale == 2:
        return blur(F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2), gain=4.0, padding=1)
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class Dense(nn.Linear):
    """A linear layer whose weights are kept at unit variance and scaled as it runs: (B, ..., n_in) -> (B, ..., n_out)."""

    def __init__(self, n_in: int, n_out: int, is_linear: bool = False, rate: float = 1.0):
        super().__init__(n_in, n_out)
        self.is_linear, self.rate = is_linear, rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x, self.weight * (self.rate * self.in_features**-0.5), self.bias * self.rate)
        return y if self.is_linear else lrelu(y)


class Convolution(nn.Module):
    """A convolution with weights as those of ``Dense``, with a scale as in ``_convolve``."""

    def __init__(self, n_in: int, n_out: int, scale: float = 1, side: int = 3):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(n_out, n_in, side, side)), nn.Parameter(torch.empty(n_out))
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _convolve(x, self.weight * self.weight[0].numel() ** -0.5, self.scale)
        return lrelu(y + self.bias[:, None, None])


class PartialConvolution(nn.Module):
    """A convolution that makes up for unknown pixels: it scales by how few of nine are known. Of no mask it does nothing.

    Shape: (B, C, H, W) and the known pixels (B, 1, H, W) -> the same two, with what is known grown by a pixel.
    """

    def __init__(self, n_in: int, n_out: int, scale: float = 1):
        super().__init__()
        self.conv = Convolution(n_in, n_out, scale)

    def forward(self, x: torch.Tensor, known: Known) -> tuple[torch.Tensor, Known]:
        x = self.conv(x)
        if known is None:
            return x, None
        stride = 2 if self.conv.scale == 0.5 else 1
        n_known = F.conv2d(known, known.new_ones(1, 1, 3, 3), stride=stride, padding=1)
        grown = n_known.clamp(max=1)
        return x * grown * (9 / (n_known + 1e-8)), grown


class ModulatedConvolution(nn.Module):
    """The weights of a ``Styled`` layer, and what a style makes of them: it scales the channels that come in."""

    def __init__(self, n_in: int, n_out: int, n_style: int, side: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, n_out, n_in, side, side))
        self.affine = Dense(n_style, n_in, is_linear=True)

    def forward(self, x: torch.Tensor, style: torch.Tensor, scale: float, demodulate: bool) -> torch.Tensor:
        weight, t = self.weight[0] * self.weight[0, 0].numel() ** -0.5, self.affine(style)
        y = _convolve(x * t[..., None, None], weight, scale)
        if not demodulate:
            return y
        # What comes out is brought back to unit variance, as if the scaled weights had been.
        norm = (t.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        return y * norm[..., None, None]


class Styled(nn.Module):
    """A layer of a decoder: a modulated convolution, noise where there is any, a bias. ``toRGB`` is one without activation."""

    def __init__(self, n_in: int, n_out: int, n_style: int, scale: float = 1, side: int = 3, noise_size: int = 0):
        super().__init__()
        self.scale, self.is_rgb = scale, side == 1
        self.bias = nn.Parameter(torch.empty(n_out))
        self.conv = ModulatedConvolution(n_in, n_out, n_style, side)
        if noise_size:
            self.noise_strength = nn.Parameter(torch.empty([]))
            self.register_buffer("noise_const", torch.empty(noise_size, noise_size))

    def forward(self, x: torch.Tensor, style: torch.Tensor, skip: Any = 0, noise: torch.Tensor | None = None) -> torch.Tensor:
        y = self.conv(x, style, self.scale, demodulate=not self.is_rgb)
        if noise is not None:
            y = y + noise * self.noise_strength
        y = y + self.bias[:, None, None]
        return y + skip if self.is_rgb else lrelu(y) + skip


class EncoderBlock(nn.Module):
    """Two convolutions; the first halves the size, but in the first block."""

    def __init__(self, n_in: int, n_out: int, is_first: bool):
        super().__init__()
        self.conv0 = Convolution(n_in, n_out, side=1) if is_first else Convolution(n_in, n_out, 0.5)
        self.conv1 = Convolution(n_out, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(self.conv0(x))


class DecoderBlock(nn.Module):
    """Doubles the featuremap, adds that of the encoder, and adds to the picture so far. The first block doubles nothing."""

    def __init__(self, n_in: int, n_out: int, n_style: int, is_first: bool = False, noise_size: int = 0):
        super().__init__()
        self.is_first = is_first
        self.conv0: Any = Convolution(n_in, n_out) if is_first else Styled(n_in, n_out, n_style, scale=2, noise_size=noise_size)
        self.conv1 = Styled(n_out, n_out, n_style, noise_size=noise_size)
        self.toRGB = Styled(n_out, 3, n_style, side=1)

    def forward(self, x, rgb, style, skip, noise=(None, None)):
        x = self.conv0(x) + skip if self.is_first else self.conv0(x, style, skip, noise[0])
        x = self.conv1(x, style, noise=noise[1])
        return x, self.toRGB(x, style, 0 if rgb is None else blur(rgb, gain=4.0, up=2))


class Attention(nn.Module):
    """Each token of a window looks at the window's known tokens: (n, N, C), and what is added to scores -> (n, N, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.q, self.k, self.v, self.proj = (Dense(dim, dim, is_linear=True) for _ in range(4))

    def forward(self, x: torch.Tensor, blocked: Known) -> torch.Tensor:
        direction = F.normalize(x, dim=-1)
        q, k, v = (
            layer(t).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, t in ((self.q, direction), (self.k, direction), (self.v, x))
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v, blocked).transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    """Attention in windows and two dense layers, without a sum or a norm: what a token saw is fused with what it was.

    Shape: (B, H, W, C) and the known tokens (B, H, W, 1) -> the same two; a window with a known token is known.
    """

    def __init__(self, dim: int, window: int, shift: int):
        super().__init__()
        self.attn, self.fuse = Attention(dim), Dense(2 * dim, dim)
        self.mlp = nn.ModuleDict({"fc1": Dense(dim, 2 * dim), "fc2": Dense(2 * dim, dim, is_linear=True)})
        self.window, self.shift = window, shift

    def forward(self, x: torch.Tensor, known: Known) -> tuple[torch.Tensor, Known]:
        n, size = self.window, x.shape[1:3]
        tokens, blocked = _windows(x, n, self.shift), None
        if self.shift:  # beside each other in a window, but not in the picture: they were rolled over its edge
            zones = [(torch.arange(side, device=x.device) >= side - n).int() for side in size]
            zones = [zone + (torch.arange(len(zone), device=x.device) >= len(zone) - self.shift) for zone in zones]
            zone = _windows((3 * zones[0][:, None] + zones[1])[None, ..., None], n)
            blocked = BLOCKED * (zone != zone.mT).to(x).repeat(len(x), 1, 1)
        if known is not None:
            valid = _windows(known, n, self.shift)
            unknown = BLOCKED * (1 - valid.mT)
            blocked = unknown if blocked is None else blocked + unknown
            known = _picture(valid.amax(dim=1, keepdim=True).expand_as(valid), size, n, self.shift)
        seen = self.attn(tokens, None if blocked is None else blocked[:, None])
        tokens = self.fuse(torch.cat([tokens, seen], dim=-1))
        return _picture(self.mlp["fc2"](self.mlp["fc1"](tokens)), size, n, self.shift), known


def _windows(x, n, shift=0):
    """(B, H, W, C) -> (B * windows, n * n, C), rolled by ``shift`` before."""
    x = torch.roll(x, (-shift, -shift), dims=(1, 2)) if shift else x
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // n, n, width // n, n, channels).transpose(2, 3).reshape(-1, n * n, channels)


def _picture(windows, size, n, shift):
    """The inverse of ``_windows``."""
    (height, width), channels = size, windows.shape[-1]
    x = windows.reshape(-1, height // n, width // n, n, n, channels).transpose(2, 3).reshape(-1, height, width, channels)
    return torch.roll(x, (shift, shift), dims=(1, 2)) if shift else x


class Transformer(nn.Module):
    """Blocks at one size, and a sum with what came in: (B, C, H, W) and the known pixels -> the same two."""

    def __init__(self, dim: int, depth: int, window: int, scale: float = 1, shifts: bool = True):
        super().__init__()
        self.downsample = nn.ModuleDict({"conv": PartialConvolution(dim, dim, scale)}) if scale != 1 else None
        self.blocks = nn.ModuleList(AttentionBlock(dim, window, window // 2 * (i % 2) * shifts) for i in range(depth))
        self.conv = PartialConvolution(dim, dim)

    def forward(self, x: torch.Tensor, known: Known = None) -> tuple[torch.Tensor, Known]:
        if self.downsample is not None:
            x, known = self.downsample["conv"](x, known)
        tokens, valid = x.permute(0, 2, 3, 1), None if known is None else known.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens, valid = block(tokens, valid)
        y, known = self.conv(tokens.permute(0, 3, 1, 2), None if valid is None else valid.permute(0, 3, 1, 2))
        return x + y, known


class Mix(nn.Module):
    """Keeps a featuremap in random places, and takes the style in the others."""

    def forward(self, x: torch.Tensor, style: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return x * kept + style * (1 - kept)
