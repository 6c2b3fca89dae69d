"""The AOT-GAN generator: a convolutional network whose residual blocks see far by dilated convolutions, at several rates.

Zeng et al., "Aggregated Contextual Transformations for High-Resolution Image Inpainting" (2021). Attribute names such as
``block00`` are those of the published weights, so that these load as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.networks.registry import Architecture, Source, Weights, count, register, width


class DilatedBlock(nn.Module):
    """x and a change of it, mixed by a gate: x (1 - g) + change g.

    The change joins 3x3 convolutions of several dilation rates; the gate g comes from x, normalized over the picture.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int, rates: Sequence[int]):
        super().__init__()
        self.n_rates, self.reach = len(rates), max(rates)
        for i, rate in enumerate(rates):
            dilated = nn.Conv2d(channels, channels // len(rates), 3, dilation=rate)
            self.add_module(f"block{i:02}", nn.Sequential(nn.ReflectionPad2d(rate), dilated, nn.ReLU()))
        self.fuse = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.gate = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) <= self.reach:
            size = " x ".join(str(4 * side) for side in x.shape[-2:])
            wanted = f"expected more than {4 * self.reach} px a side, at smallest_scale, too: it reaches {self.reach} px of z"
            raise ValueError(f"image is {size} px, too small for AOT-GAN; {wanted}")
        contexts = [self.get_submodule(f"block{i:02}")(x) for i in range(self.n_rates)]
        change = self.fuse(torch.cat(contexts, dim=1))
        gate = self.gate(x)
        std, mean = torch.std_mean(gate, dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(5 * (2 * (gate - mean) / (std + 1e-9) - 1))
        return x * (1 - gate) + change * gate


class DoubleSize(nn.Module):
    """Doubles height and width, corner to corner, then a 3x3 convolution."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))


class AOTGenerator(nn.Module):
    """The inpainting network of AOT-GAN; the defaults are the published one.

    An ``encoder`` with two halvings, ``n_blocks`` residual blocks in the ``middle`` at 1/4 of the size, a ``decoder`` that
    doubles twice. It has no Fourier layers: how far it sees is set by its rates.

    Args:
        channels: of the blocks; a multiple of 4, and of the number of rates.
        n_blocks: residual blocks.
        rates: dilation rates of a block, in pixels of its featuremap; a reflection cannot reach farther than the
            featuremap's sides, so a picture must be more than four times the largest.

    Shape:
        (B, 4, H, W) -> (B, 3, H, W), H and W multiples of 4. Channels 0-2 are the image in [-1, 1] with the hole set to 1,
        channel 3 is the mask (1 = hole). The prediction is in [-1, 1], known pixels included.

    Raises:
        ValueError: where an argument is out of its range; as it runs, where a picture is too small.
    """

    multiple = 4  # two halvings
    hole_value = 1.0
    value_range = (-1.0, 1.0)

    def __init__(self, channels: int = 256, n_blocks: int = 8, rates: Sequence[int] = (1, 2, 4, 8)):
        super().__init__()
        if channels < 4 or channels % 4 or channels % len(rates):
            raise ValueError(f"channels is {channels}; expected a multiple of 4 and of the number of rates, {len(rates)}")
        if n_blocks < 1 or min(rates) < 1:
            raise ValueError(f"n_blocks is {n_blocks} and rates is {rates}; expected all to be at least 1")
        stem = nn.Conv2d(4, channels // 4, 7)
        halve = [nn.Conv2d(n, 2 * n, 4, stride=2, padding=1) for n in (channels // 4, channels // 2)]
        double = [DoubleSize(n, n // 2) for n in (channels, channels // 2)]
        head = nn.Conv2d(channels // 4, 3, 3, padding=1)

        self.encoder = nn.Sequential(nn.ReflectionPad2d(3), stem, nn.ReLU(), halve[0], nn.ReLU(), halve[1], nn.ReLU())
        self.middle = nn.Sequential(*(DilatedBlock(channels, rates) for _ in range(n_blocks)))
        self.decoder = nn.Sequential(double[0], nn.ReLU(), double[1], nn.ReLU(), head, nn.Tanh())
        self.first_block = len(self.encoder)  # as in LaMa: the front ends where the residual blocks begin

    @property
    def layers(self) -> nn.Sequential:
        """All layers in their order, as one ``Sequential``."""
        return nn.Sequential(*self.encoder, *self.middle, *self.decoder)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.middle(self.encoder(x)))


def aot_arguments(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """``channels``, ``n_blocks`` and ``rates`` of the AOT-GAN generator whose state this is.

    Its dilation rates leave no trace in the weights. They are taken to double from 1, as the published ones do.
    """
    n_rates = count(r"middle\.0\.block(\d+)\.1\.weight", state, most=6)
    n_blocks = count(r"middle\.(\d+)\.fuse\.1\.weight", state)
    return {"channels": width(state, "encoder.5.weight"), "n_blocks": n_blocks, "rates": tuple(2**i for i in range(n_rates))}


AOT_GAN = Source(
    "https://huggingface.co/NimaBoscarino/aot-gan-places2/resolve/main/pytorch_model.bin",
    "bccbee30d45e8682abfa803f2c7b1268a637d5b9d7f5fb0048765ffd542e8843",
)

register(
    Architecture(
        name="AOT-GAN",
        network=AOTGenerator,
        stem="middle.0.block00.1.weight",
        arguments=aot_arguments,
        weights={"aot-gan": Weights(((AOT_GAN,),))},
    )
)
