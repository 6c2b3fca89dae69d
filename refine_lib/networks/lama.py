"""The LaMa generator: a convolutional network whose residual blocks see the whole picture through a Fourier transform.

Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (2021). Attribute names such as
``ffc.convl2g`` are those of the published weights, so that these load as they are.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from refine_lib.networks.registry import Architecture, Source, Weights, count, register, width

Pair = tuple[int, int]  # channels in and out
Maps = torch.Tensor | tuple[torch.Tensor, torch.Tensor]  # one featuremap, or the pair (local, global)


class FourierUnit(nn.Module):
    """A 1x1 convolution in the frequency domain: every output pixel depends on every input pixel.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        full = torch.promote_types(x.dtype, torch.float32)  # half precision has no FFT on the CPU, and overflows on CUDA

        spectrum = torch.view_as_real(torch.fft.rfft2(x.to(full), norm="ortho"))  # (B, C, H, W//2+1, 2)
        as_channels = spectrum.permute(0, 1, 4, 2, 3).reshape(batch, 2 * channels, height, -1)  # re0, im0, re1, im1, ...
        mixed = torch.relu(self.bn(self.conv_layer(as_channels))).to(full)
        spectrum = mixed.reshape(batch, channels, 2, height, -1).permute(0, 1, 3, 4, 2).contiguous()
        return torch.fft.irfft2(torch.view_as_complex(spectrum), s=(height, width), norm="ortho").to(x.dtype)


class SpectralTransform(nn.Module):
    """The path from global to global channels: a Fourier unit between two 1x1 convolutions.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Sequential(nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.fu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return self.conv2(x + self.fu(x))


class FastFourierConvolution(nn.Module):
    """Convolutions among local channels (seen through 3x3 windows) and global channels (seen through the spectrum).

    ``n_local`` and ``n_global`` are pairs (in, out). Without global channels a featuremap is one tensor. With them it is the
    pair (local, global).
    """

    def __init__(self, n_local: Pair, n_global: Pair, kernel_size: int = 3, stride: int = 1, padding: int = 1):
        super().__init__()

        def convolution(n_in, n_out):
            return nn.Conv2d(n_in, n_out, kernel_size, stride, padding, bias=False, padding_mode="reflect")

        self.convl2l = convolution(n_local[0], n_local[1])
        if n_global[1]:
            self.convl2g = convolution(n_local[0], n_global[1])
        if n_global[0]:
            self.convg2l = convolution(n_global[0], n_local[1])
            self.convg2g = SpectralTransform(n_global[0])
        self.n_global = n_global

    def forward(self, x: Maps) -> Maps:
        has_global_in, has_global_out = map(bool, self.n_global)
        local, global_ = x if has_global_in else (x, None)
        local_out = self.convl2l(local)
        if has_global_in:
            local_out = local_out + self.convg2l(global_)
        if not has_global_out:
            return local_out
        global_out = self.convl2g(local)
        if has_global_in:
            global_out = global_out + self.convg2g(global_)
        return local_out, global_out


class FourierLayer(nn.Module):
    """A fast Fourier convolution, then batch norm and ReLU on local and on global channels."""

    def __init__(self, n_local: Pair, n_global: Pair = (0, 0), **convolution: int):
        super().__init__()
        self.ffc = FastFourierConvolution(n_local, n_global, **convolution)
        self.bn_l = nn.BatchNorm2d(n_local[1])
        if n_global[1]:
            self.bn_g = nn.BatchNorm2d(n_global[1])

    def forward(self, x: Maps) -> Maps:
        x = self.ffc(x)
        if isinstance(x, tuple):
            return torch.relu(self.bn_l(x[0])), torch.relu(self.bn_g(x[1]))
        return torch.relu(self.bn_l(x))


class FourierBlock(nn.Module):
    """A residual block of two Fourier layers: x + layer2(layer1(x))."""

    def __init__(self, n_local: int, n_global: int):
        super().__init__()
        self.conv1 = FourierLayer((n_local, n_local), (n_global, n_global))
        self.conv2 = FourierLayer((n_local, n_local), (n_global, n_global))

    def forward(self, x: Maps) -> Maps:
        change = self.conv2(self.conv1(x))
        if isinstance(x, tuple):
            return x[0] + change[0], x[1] + change[1]
        return x + change


class JoinLocalAndGlobal(nn.Module):
    """Concatenates the pair (local, global) to one featuremap, local channels first."""

    def forward(self, x: Maps) -> torch.Tensor:
        return torch.cat(x, dim=1) if isinstance(x, tuple) else x


class LamaGenerator(nn.Module):
    """The inpainting network of LaMa; the defaults are Big-LaMa, ``n_blocks=9`` is LaMa-Fourier.

    A ``Sequential`` named ``model``: padding and stem (0, 1), three layers that each halve the size (2-4), ``n_blocks``
    residual blocks on the pair (local, global) at 1/8 of the size, then three layers that each double it, and the head.

    Args:
        ngf: channels after the stem; the blocks work on ``8 * ngf``.
        n_blocks: residual blocks; their number is the depth of the part that refinement calls ``rear``.
        ratio: share of the blocks' channels that are global, in [0, 1). 0 gives a network without Fourier transforms.

    Shape:
        (B, 4, H, W) -> (B, 3, H, W), H and W multiples of 8. Channels 0-2 are the image in [0, 1] with the hole set to 0,
        channel 3 is the mask (1 = hole). The prediction is in [0, 1], known pixels included: pasting it is the caller's.

    Raises:
        ValueError: where an argument is out of its range.
    """

    multiple = 8  # three halvings

    def __init__(self, ngf: int = 64, n_blocks: int = 18, ratio: float = 0.75):
        super().__init__()
        if ngf < 1 or n_blocks < 1:
            raise ValueError(f"ngf is {ngf} and n_blocks is {n_blocks}; expected both to be at least 1")
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio is {ratio}; expected a share of global channels in [0, 1)")
        self.ngf, self.n_blocks, self.ratio = ngf, n_blocks, ratio
        n_global = int(round(8 * ngf * ratio, 6))  # rounded first: 0.3 * 80 is 23.999...
        n_local = 8 * ngf - n_global

        halve = dict(kernel_size=3, stride=2, padding=1)
        encoder = [
            nn.ReflectionPad2d(3),
            FourierLayer((4, ngf), kernel_size=7, padding=0),
            FourierLayer((ngf, 2 * ngf), (0, 0), **halve),
            FourierLayer((2 * ngf, 4 * ngf), (0, 0), **halve),
            FourierLayer((4 * ngf, n_local), (0, n_global), **halve),
        ]
        blocks = [FourierBlock(n_local, n_global) for _ in range(n_blocks)]
        decoder = [JoinLocalAndGlobal()]
        for n in (8 * ngf, 4 * ngf, 2 * ngf):
            double = nn.ConvTranspose2d(n, n // 2, 3, stride=2, padding=1, output_padding=1)
            decoder += [double, nn.BatchNorm2d(n // 2), nn.ReLU()]
        head = [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Sigmoid()]

        self.first_block = len(encoder)  # the paper's split: everything before it is the front
        self.model = nn.Sequential(*encoder, *blocks, *decoder, *head)

    @property
    def layers(self) -> nn.Sequential:
        """All layers in their order, as one ``Sequential``."""
        return self.model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def lama_arguments(state: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """``ngf``, ``n_blocks`` and ``ratio`` of the LaMa generator whose state this is."""
    ngf, n_local = width(state, "model.1.ffc.convl2l.weight"), width(state, "model.4.ffc.convl2l.weight")
    n_blocks = count(r"model\.(\d+)\.conv1\.ffc\.convl2l\.weight", state)
    return {"ngf": ngf, "n_blocks": n_blocks, "ratio": round(1 - n_local / (8 * ngf), 9)}


BIG_LAMA = (
    Source(
        "https://huggingface.co/smartywu/big-lama/resolve/05cb2be7f8dbe6ca7c6e78f4fc827a4b2baaa4a9/big-lama.zip",
        "f1b358ca24093b93a106183b98a3dea6e8ed09f3b43ea7251eb2c81e7b4575f6",
        member="big-lama/models/best.ckpt",
    ),
    Source(
        "https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
        "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
    ),
)
LAMA_FOURIER = Source(
    "https://huggingface.co/camenduru/big-lama/resolve/main/lama-fourier/models/best.ckpt",
    "b2456284b604786a88a38549432ddf2e73a5911f9868ea692b5122e89a5f1f54",
)

register(
    Architecture(
        name="LaMa",
        network=LamaGenerator,
        stem="model.1.ffc.convl2l.weight",
        arguments=lama_arguments,
        weights={  # the settings of the embedded networks were chosen on scenes of their own kind
            "mini-lama": Weights(path=Path(__file__).with_name("mini_lama.safetensors"), smallest_scale=64, lr=0.005),
            "mini-conv": Weights(path=Path(__file__).with_name("mini_conv.safetensors"), smallest_scale=64, lr=0.005),
            "big-lama": Weights((BIG_LAMA,)),
            "lama-fourier": Weights(((LAMA_FOURIER,),)),
        },
    )
)
