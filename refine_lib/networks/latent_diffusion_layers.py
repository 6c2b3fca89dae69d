"""The two networks of latent diffusion: an autoencoder with a codebook, and a UNet that predicts noise."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

GROUPS = 32  # of a norm
LATENT = 3  # channels
PIXELS_AT_ONCE = 2048  # whose distances to all codes are in memory at a time


class Norm(nn.GroupNorm):
    """A group norm, computed in float32 where its numbers have fewer bits."""

    def __init__(self, n: int, eps: float):
        super().__init__(GROUPS, n, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.element_size() > 2:
            return super().forward(x)
        return F.group_norm(x.float(), GROUPS, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


def convolution(n_in: int, n_out: int, size: int = 3, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride, size // 2 if padding is None else padding)


class Block(nn.Module):
    """A residual block of the autoencoder."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.norm1, self.conv1 = Norm(n_in, 1e-6), convolution(n_in, n_out)
        self.norm2, self.conv2 = Norm(n_out, 1e-6), convolution(n_out, n_out)
        if n_in != n_out:
            self.nin_shortcut = convolution(n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return h.add_(x if x.shape == h.shape else self.nin_shortcut(x))


class Resize(nn.Module):
    """Half the size, with zeros at the right and the bottom alone; or twice the size."""

    def __init__(self, n: int, halves: bool):
        super().__init__()
        self.halves = halves
        self.conv = convolution(n, n, stride=2, padding=0) if halves else convolution(n, n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.halves else F.interpolate(x, scale_factor=2.0))


class Coder(nn.Module):
    """The encoder, (B, 3, H, W) -> (B, 3, H/4, W/4), or the decoder, the other way: blocks at three sizes.

    Args:
        widths: channels from the full size to a quarter.
        n_blocks: at each size.
        enlarges: whether it is the decoder.
    """

    def __init__(self, widths: Sequence[int], n_blocks: int, enlarges: bool):
        super().__init__()
        self.enlarges, smallest = enlarges, len(widths) - 1
        order = list(enumerate(widths))[:: -1 if enlarges else 1]
        n = widths[-1] if enlarges else widths[0]
        self.conv_in = convolution(LATENT, n)
        levels: list[Any] = [nn.Module() for _ in widths]
        for i, n_out in order:
            levels[i].block = nn.ModuleList(Block(n if j == 0 else n_out, n_out) for j in range(n_blocks))
            if enlarges and i > 0:
                levels[i].upsample = Resize(n_out, halves=False)
            if not enlarges and i < smallest:
                levels[i].downsample = Resize(n_out, halves=True)
            n = n_out
        self.add_module("up" if enlarges else "down", nn.ModuleList(levels))
        self.mid = nn.ModuleDict({name: Block(widths[-1], widths[-1]) for name in ("block_1", "block_2")})
        self.norm_out, self.conv_out = Norm(n, 1e-6), convolution(n, LATENT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels: Any = self.up if self.enlarges else self.down
        levels = reversed(levels) if self.enlarges else levels
        at_levels = [layer for level in levels for part in level.children() for layer in _listed(part)]
        middle = list(self.mid.values())
        x = self.conv_in(x)
        for layer in [*middle, *at_levels] if self.enlarges else [*at_levels, *middle]:
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x), inplace=True))


def _listed(part):
    return part if isinstance(part, nn.ModuleList) else [part]


class Autoencoder(nn.Module):
    """Pictures in [-1, 1] to latents of 3 channels at a quarter of the size, and back, by way of a codebook."""

    def __init__(self, n: int, n_codes: int):
        super().__init__()
        widths = n, 2 * n, 4 * n
        self.encoder, self.decoder = Coder(widths, 2, enlarges=False), Coder(widths, 3, enlarges=True)
        self.quantize: Any = nn.ModuleDict({"embedding": nn.Embedding(n_codes, LATENT)})
        self.quant_conv, self.post_quant_conv = convolution(LATENT, LATENT, 1), convolution(LATENT, LATENT, 1)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(image))

    def codes(self, latent: torch.Tensor) -> torch.Tensor:
        """The number of the nearest code at each pixel: (B, 3, h, w) -> (B, h, w); of codes as near the first."""
        table = self.quantize["embedding"].weight
        pixels = latent.permute(0, 2, 3, 1).reshape(-1, 1, LATENT).split(PIXELS_AT_ONCE)
        distances = ([(some[..., i] - table[:, i]).square_() for i in range(LATENT)] for some in pixels)
        nearest = torch.cat([red.add_(green).add_(blue).argmin(dim=1) for red, green, blue in distances])
        return nearest.reshape(latent.shape[0], *latent.shape[2:])

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The picture of the nearest codes."""
        return self.decoded(self.quantize["embedding"](self.codes(latent)).permute(0, 3, 1, 2))

    def decoded(self, latent: torch.Tensor) -> torch.Tensor:
        """The picture of a latent as it is."""
        return self.decoder(self.post_quant_conv(latent))


class TimedBlock(nn.Module):
    """A residual block of the UNet that knows the time; it may halve (0.5) or double (2) the size, behind its first norm."""

    def __init__(self, n_in: int, n_out: int, n_time: int, scale: float = 1):
        super().__init__()
        self.scale = scale
        self.in_layers = nn.Sequential(Norm(n_in, 1e-5), nn.SiLU(inplace=True), convolution(n_in, n_out))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(n_time, n_out))
        silent = nn.Identity()  # where the published network drops out as it is trained
        self.out_layers = nn.Sequential(Norm(n_out, 1e-5), nn.SiLU(inplace=True), silent, convolution(n_out, n_out))
        self.skip_connection = nn.Identity() if n_in == n_out else convolution(n_in, n_out, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self.in_layers[2](self._resized(self.in_layers[:2](x)))
        h = h + self.emb_layers(time)[..., None, None]
        return self.out_layers(h).add_(self.skip_connection(self._resized(x)))

    def _resized(self, x):
        if self.scale == 1:
            return x
        return F.avg_pool2d(x, 2) if self.scale < 1 else F.interpolate(x, scale_factor=2.0)


class Attention(nn.Module):
    """Each pixel looks at all. Memory grows with their number, and not with its square."""

    def __init__(self, n: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.proj_out = Norm(n, 1e-5), nn.Conv1d(n, 3 * n, 1), nn.Conv1d(n, n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, height, width = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        q, k, v = qkv.reshape(batch, self.heads, 3, n // self.heads, -1).mT.contiguous().unbind(dim=2)
        with torch.autocast(x.device.type, enabled=False):  # the softmax is in float32
            seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(seen.mT.reshape(batch, n, -1)).reshape(x.shape)


class Layers(nn.Sequential):
    """Layers in their order, of which some know the time."""

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            x = layer(x, time) if isinstance(layer, TimedBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Predicts the noise in a latent: (B, 7, h, w) and a step from 0 to 999 -> (B, 3, h, w); sides are multiples of 8.

    Args:
        n: channels at the full size of the latent, a multiple of 32; at a half, a quarter and an eighth 2, 3 and 4 times that.
        heads: of attention, at all sizes but the full one.
    """

    def __init__(self, n: int, heads: int):
        super().__init__()
        self.n, n_time, widths = n, 4 * n, [n, 2 * n, 3 * n, 4 * n]

        def layers(n_in, n_out, level, scale=1.0):
            found: list[nn.Module] = [TimedBlock(n_in, n_out, n_time)]
            found += [Attention(n_out, heads)] if level else []
            return Layers(*found, *([TimedBlock(n_out, n_out, n_time, scale)] if scale != 1 else []))

        self.time_embed = nn.Sequential(nn.Linear(n, n_time), nn.SiLU(), nn.Linear(n_time, n_time))
        down, skips = [Layers(convolution(2 * LATENT + 1, n))], [n]
        for level, width in enumerate(widths):
            for _ in range(2):
                down.append(layers(skips[-1], width, level))
                skips.append(width)
            if level < 3:
                down.append(Layers(TimedBlock(width, width, n_time, 0.5)))
                skips.append(width)
        self.input_blocks, n_in = nn.ModuleList(down), widths[-1]
        deepest = [TimedBlock(n_in, n_in, n_time), Attention(n_in, heads), TimedBlock(n_in, n_in, n_time)]
        self.middle_block, up = Layers(*deepest), []
        for level, width in reversed(list(enumerate(widths))):
            for i in range(3):
                up.append(layers(n_in + skips.pop(), width, level, 2.0 if i == 2 and level else 1.0))
                n_in = width
        self.output_blocks = nn.ModuleList(up)
        self.out = nn.Sequential(Norm(n, 1e-5), nn.SiLU(inplace=True), convolution(n, LATENT))

    def time(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """Cosines and sines of a step, (1, n)."""
        half = self.n // 2
        angles = step * torch.exp(torch.arange(half, dtype=torch.float64, device="cpu") * (-log(10_000) / half))
        return torch.cat([angles.cos(), angles.sin()])[None].to(like)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        time, skips = self.time_embed(self.time(step, x)), []
        for layer in self.input_blocks:
            x = layer(x, time)
            skips.append(x)
        x = self.middle_block(x, time)
        for layer in self.output_blocks:
            x = layer(torch.cat([x, skips.pop()], dim=1), time)
        return self.out(x)
