"""MAT: a transformer that looks at known pixels alone paints a first picture, and a convolutional network paints it over.

Li et al., "MAT: Mask-Aware Transformer for Large Hole Image Inpainting" (CVPR 2022). Attribute names such as ``Dec_64x64`` are
those of the published weights, so that these load as they are. Such a name speaks of a picture of 512 px; of a larger one the
featuremap is larger.

A style, made from random numbers z, is put into the network in two ways: it scales the weights of the decoders, and it is mixed
into the featuremap at 1/32 of the size, where random places take it in. Both are the same in every run unless others are given.
"""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.networks.mat_layers import (
    HEADS,
    Convolution,
    DecoderBlock,
    Dense,
    EncoderBlock,
    Mix,
    PartialConvolution,
    Transformer,
)
from refine_lib.networks.registry import Architecture, Source, Weights, register, width

REDUCTION = 32  # of the size, at the coarsest
Z_SEED = 240  # of numpy's older generator: that of the authors' script
NOISE_MODES = ("none", "const", "random")


class FirstStage(nn.Module):
    """The transformer at 1/8 to 1/32 of the size, and a decoder: a first picture (B, 3, H, W), the image where it is known."""

    def __init__(self, dim: int, window: int, n_style: int):
        super().__init__()
        n, half = window, window // 2
        self.conv_first = PartialConvolution(4, dim)
        self.enc_conv = nn.ModuleList(PartialConvolution(dim, dim, 0.5) for _ in range(3))
        self.tran = nn.ModuleList(
            Transformer(dim, depth, side, scale, shifts=i != 2)  # at 1/32 a window was the whole picture
            for i, (depth, side, scale) in enumerate(((2, half, 1), (3, n, 0.5), (4, n, 0.5), (3, n, 2), (2, half, 2)))
        )
        self.mix = Mix()
        self.down_conv = nn.ModuleList(Convolution(dim, dim, 0.5) for _ in range(int(log2(window))))
        self.to_style, self.ws_style, self.to_square = Dense(dim, 2 * dim), Dense(n_style, dim), Dense(dim, window**2)
        self.dec_conv = nn.ModuleList(DecoderBlock(dim, dim, 3 * dim) for _ in range(3))

    def forward(self, image: torch.Tensor, known: torch.Tensor, w: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        x, valid = self.conv_first(torch.cat([known - 0.5, image * known], dim=1), known)
        skips = []
        for layer in self.enc_conv:
            skips.append(x)
            x, valid = layer(x, valid)
        x, valid = self.tran[0](x, valid)
        large = x
        x, valid = self.tran[1](x, valid)
        middle = x
        x, _ = self.tran[2](x)

        style = self.ws_style(w)
        square = F.interpolate(self.to_square(style)[:, None], x[0, 0].numel(), mode="linear", align_corners=False)
        x = self.mix(x, square.reshape(-1, 1, *x.shape[-2:]), kept)
        g = x
        for layer in self.down_conv:
            g = layer(g)
        style = torch.cat([self.to_style(g.mean(dim=(2, 3))), style], dim=1)

        x = self.tran[3](x)[0] + middle
        x = self.tran[4](x)[0] + large
        rgb: Any = None
        for layer, skip in zip(self.dec_conv, reversed(skips), strict=True):
            x, rgb = layer(x, rgb, style, skip)
        return torch.where(known > 0, image, rgb)


class ToStyle(nn.Module):
    """What is seen in a featuremap, as a part of the style: (B, C, h, w) -> (B, 2C)."""

    def __init__(self, n: int, window: int):
        super().__init__()
        self.conv = nn.Sequential(*(Convolution(n, n, 0.5) for _ in range(int(log2(window)) - 1)))
        self.fc = Dense(n, 2 * n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).mean(dim=(2, 3)))


class Decoder(nn.ModuleDict):
    """From the mixed featuremap and the encoder's to a picture: blocks named by their size at the smallest picture."""

    def forward(self, x, skips, w, g, noise):
        style, rgb = torch.cat([w, g], dim=1), None
        for block, skip, maps in zip(self.values(), skips, noise, strict=True):
            x, rgb = block(x, rgb, style, skip, maps)
        return rgb


class Synthesis(nn.Module):
    """Both stages: image, known pixels and style -> the picture, (B, 3, H, W)."""

    def __init__(self, channels: Sequence[int], dim: int, window: int, has_noise: bool):
        super().__init__()
        n, sizes = channels[-1], [window * REDUCTION // 2**i for i in range(6)]
        self.first_stage = FirstStage(dim, window, n)
        self.enc = nn.ModuleDict()
        for i, (n_in, n_out) in enumerate(zip((7, *channels), channels, strict=False)):
            self.enc[f"EncConv_Block_{sizes[i]}x{sizes[i]}"] = EncoderBlock(n_in, n_out, is_first=i == 0)
        self.to_square, self.mix = Dense(n, window**2), Mix()
        self.to_style, self.dec = ToStyle(n, window), Decoder()
        widths = (channels[-1], *reversed(channels))
        for i, size in enumerate(reversed(sizes)):
            block = DecoderBlock(widths[i], widths[i + 1], 3 * n, is_first=i == 0, noise_size=size * has_noise)
            self.dec[f"Dec_{size}x{size}"] = block

    def forward(self, image, known, w, kept, noise):
        first = self.first_stage(image, known, w, kept[0])
        x, skips = torch.cat([known - 0.5, first, image * known], dim=1), []
        for block in self.enc.values():
            x = block(x)
            skips.append(x)
        side = round(self.to_square.out_features**0.5)
        square = self.to_square(w).reshape(-1, 1, side, side)
        square = F.interpolate(square, x.shape[-2:], mode="bilinear", align_corners=False)
        x = self.mix(x, square, kept[1])
        rgb = self.dec(x, [x, *skips[-2::-1]], w, self.to_style(x), noise)
        return torch.where(known > 0, image, rgb)


class Style(nn.Module):
    """From random numbers to a style: (B, n) -> (B, n)."""

    def __init__(self, n: int):
        super().__init__()
        self.w_avg: torch.Tensor
        self.register_buffer("w_avg", torch.empty(n))  # of many styles
        for i in range(8):
            self.add_module(f"fc{i}", Dense(n, n, rate=0.01))

    def forward(self, z: torch.Tensor, psi: float) -> torch.Tensor:
        w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for i in range(8):
            w = self.get_submodule(f"fc{i}")(w)
        return self.w_avg + psi * (w - self.w_avg)


class MATGenerator(nn.Module):
    """The inpainting network of MAT; the defaults are those of the published one for 512 px.

    Args:
        channels: of the second stage's featuremaps, from the full size to 1/32 of it; six numbers.
        dim: channels of the first stage; a multiple of 6, the number of attention heads.
        window: side of the windows of attention at 1/32 of the size, a power of 2 from 4. Sides of a picture are multiples of
            32 times that.
        has_noise: whether there are weights for noise in the decoder.
        noise: ``"none"``; ``"const"``, the noise among the weights, for a picture of the smallest size alone; ``"random"``.
        seed: of the random places where the style is mixed in, and of random noise.

    Attributes:
        first_block: the cut. The rear begins where the second stage's decoder does.
        moves: z is the mixed featuremap at 1/32 of the size. The encoder's finer featuremaps and the style stay as they are.
        wide: more to move: those at 1/16 and 1/8 as well, by ``split_network(network, moves=network.wide)``.

    Shape:
        (B, 4, H, W) -> (B, 3, H, W). Channels 0-2 are the image in [-1, 1], channel 3 is the mask (1 = hole). What the image
        holds in the hole is not looked at. Known pixels come back as they are. What is filled is not clamped.

    Raises:
        ValueError: where an argument is out of its range; as it runs, where a picture or ``z`` or ``kept`` does not fit.
    """

    hole_value = 0.0
    value_range = (-1.0, 1.0)
    first_block = ("synthesis.to_style", "synthesis.dec")
    moves = ("synthesis.mix",)

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 512, 512),
        dim: int = 180,
        window: int = 16,
        has_noise: bool = False,
        noise: str = "none",
        seed: int = 0,
    ):
        super().__init__()
        if len(channels) != 6 or min(channels) < 1 or channels[-1] != channels[-2]:
            raise ValueError(f"channels is {channels}; expected six numbers of at least 1, the last two the same")
        if dim < HEADS or dim % HEADS or window not in (4, 8, 16):
            raise ValueError(f"dim is {dim} and window {window}; expected a multiple of {HEADS}, and 4, 8 or 16")
        if noise not in NOISE_MODES or noise != "none" and not has_noise:
            raise ValueError(f"noise is {noise!r}; expected one of {', '.join(NOISE_MODES)}; all but 'none' take has_noise")
        self.multiple, self.noise, self.seed, self.has_noise = window * REDUCTION, noise, seed, has_noise
        self.dims = dim, channels[-1]
        self.wide = (*self.moves, *(f"synthesis.enc.EncConv_Block_{n}x{n}" for n in (2 * window, 4 * window)))
        self.mapping = Style(channels[-1])
        self.synthesis = Synthesis(channels, dim, window, has_noise)
        self._draw()

    @torch.no_grad()
    def _draw(self):
        """Weights of a network that is not trained."""
        for name, tensor in self.state_dict().items():
            if tensor.ndim < 2:
                tensor.fill_(name.endswith("affine.bias"))
            else:
                tensor.normal_(std=100.0 if name.startswith("mapping") else 1.0)

    def forward(
        self,
        x: torch.Tensor,
        z: torch.Tensor | None = None,
        kept: Sequence[torch.Tensor] | None = None,
        psi: float = 1.0,
    ) -> torch.Tensor:
        """Fills a hole.

        Args:
            x: as above.
            z: (1, n) or (B, n), random numbers that make the style; n is the last of ``channels``. None takes the same for all.
            kept: two tensors (1, C, H/32, W/32) of zeros and ones, one a stage: 0 where the style is mixed in. None draws both
                from ``seed``, for each place and channel with even chances.
            psi: of a style's distance from the average style.
        """
        height, width = (side // REDUCTION for side in x.shape[-2:])
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(f"image is {x.shape[-2]} x {x.shape[-1]} px; expected multiples of {self.multiple} px")
        image, known = x[:, :3], 1 - x[:, 3:]
        dice = torch.Generator().manual_seed(self.seed)
        if kept is None:
            kept = [torch.randint(2, (1, n, height, width), generator=dice, device="cpu") for n in self.dims]
        if z is None:
            z = torch.from_numpy(np.random.RandomState(Z_SEED).randn(1, self.dims[1]))
        w = self.mapping(z.to(x), psi).expand(len(x), -1)
        blocks: Any = self.synthesis.dec.values()
        noise = [
            [self._noise(layer, (height << i, width << i), dice, x) for layer in (block.conv0, block.conv1)]
            for i, block in enumerate(blocks)
        ]
        return self.synthesis(image, known, w, [t.to(x) for t in kept], noise)

    def _noise(self, layer, size, dice, like):
        """The noise of a layer of the decoder; None where there is none."""
        if self.noise == "none" or not hasattr(layer, "noise_const"):
            return None
        if self.noise == "random":
            return torch.randn(1, 1, *size, generator=dice, device="cpu").to(like)
        if layer.noise_const.shape != size:
            raise ValueError(f"noise is 'const', which is for {self.multiple} px a side; expected 'random' or 'none'")
        return layer.noise_const


def mat_arguments(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of the MAT generator whose state this is. Files without its noise are known, too."""
    sizes = sorted({int(name.rpartition("x")[2]) for name in _blocks(state)}, reverse=True)
    if len(sizes) != 6 or sizes[0] != REDUCTION * sizes[-1]:
        raise ValueError(f"it has encoder blocks for {sizes} px; expected six, each half the one before")
    names = [f"synthesis.enc.EncConv_Block_{size}x{size}.conv1.weight" for size in sizes]
    return {
        "channels": tuple(width(state, name) for name in names),
        "dim": width(state, "synthesis.first_stage.conv_first.conv.weight"),
        "window": sizes[-1],
        "has_noise": any(name.endswith("noise_strength") for name in state),
    }


def _blocks(state):
    return {name.split(".")[2] for name in state if name.startswith("synthesis.enc.EncConv_Block_")}


PTH = Source(
    "https://github.com/Sanster/models/releases/download/add_mat/Places_512_FullData_G.pth",
    md5="8ca927835fa3f5e21d65ffcb165377ed",
)
HALF = Source(
    "https://huggingface.co/Acly/MAT/resolve/main/MAT_Places512_G_fp16.safetensors",
    "309dd6ce6e04034dc4b6b15c7bd2a4844d158e03eb2a139e0eca6b366e40c0de",
)

register(
    Architecture(
        name="MAT",
        network=MATGenerator,
        stem="synthesis.first_stage.conv_first.conv.weight",
        arguments=mat_arguments,
        idle=("resample_filter", "attn_mask"),
        weights={"mat": Weights(((PTH, HALF),))},
    )
)
