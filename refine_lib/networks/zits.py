"""ZITS: edges and lines are completed in a small picture, enlarged, and added to the front of a LaMa.

Dong, Cao and Fu, "Incremental Transformer Structure Enhanced Image Inpainting with Masking Positional Encoding" (CVPR 2022).
Attribute names are those of the published weights, but for those of a Fourier block's layers, there ``ffc1`` and ``ffc2``.
"""

import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from refine_lib.networks.lama import FourierBlock, JoinLocalAndGlobal
from refine_lib.networks.registry import Architecture, Source, Weights, count, register, width
from refine_lib.networks.zits_structure import SIDE, StructureEncoder, StructureUpsampling, hole_at, positions, squared
from refine_lib.networks.zits_transformer import HEADS, StructureTransformer
from refine_lib.networks.zits_wireframe import SIDE as WIREFRAME_SIDE
from refine_lib.networks.zits_wireframe import Wireframe

LEAST_PX = 24  # a side: at 1/8 of it there are 2 pixels to be mirrored
SIGMA = 3  # pixels, of Canny's blur
GRAY = (0.2125, 0.7154, 0.0721)  # shares of red, green and blue


class StructuredLama(nn.Module):
    """The layers of a LaMa that has no Fourier layers before its blocks; ``ZITSGenerator`` puts them in their order."""

    def __init__(self, n: int, n_blocks: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, n, 7), nn.BatchNorm2d(n)
        self.conv2, self.bn2 = nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), nn.BatchNorm2d(2 * n)
        self.conv3, self.bn3 = nn.Conv2d(2 * n, 4 * n, 3, stride=2, padding=1), nn.BatchNorm2d(4 * n)
        self.conv4, self.bn4 = nn.Conv2d(4 * n, 8 * n, 3, stride=2, padding=1), nn.BatchNorm2d(8 * n)
        self.middle = nn.Sequential(*(FourierBlock(2 * n, 6 * n) for _ in range(n_blocks)))
        double: Any = dict(kernel_size=3, stride=2, padding=1, output_padding=1)
        self.convt1, self.bnt1 = nn.ConvTranspose2d(8 * n, 4 * n, **double), nn.BatchNorm2d(4 * n)
        self.convt2, self.bnt2 = nn.ConvTranspose2d(4 * n, 2 * n, **double), nn.BatchNorm2d(2 * n)
        self.convt3, self.bnt3 = nn.ConvTranspose2d(2 * n, n, **double), nn.BatchNorm2d(n)
        self.convt4 = nn.Conv2d(n, 3, 7)

    def body(self) -> list[nn.Module]:
        """The layers from the first block to before the last convolution."""
        double = [layer for i in "123" for layer in (getattr(self, f"convt{i}"), getattr(self, f"bnt{i}"), nn.ReLU())]
        return [*self.middle, JoinLocalAndGlobal(), *double, nn.ReflectionPad2d(3)]

    def head(self) -> list[nn.Module]:
        """The last layers as LaMa's: (tanh + 1) / 2 is the sigmoid of twice a number."""
        last = nn.Conv2d(self.convt4.in_channels, 3, 7, device="meta")
        last.weight, last.bias = (nn.Parameter(2 * t.detach()) for t in self.convt4.parameters())
        return [last, nn.Sigmoid()]


class StructuredFront(nn.Module):
    """All that comes before the first block, as one layer: (B, 4, H, W) -> the pair (local, global) at 1/8 of the size.

    Edges and lines are found once for a picture, and have no gradient. ``note`` and ``least_px`` are the network's.
    """

    has_thresholds = True  # so that a wrapper leaves it as it is

    def __init__(self, network: "ZITSGenerator"):
        super().__init__()
        if importlib.util.find_spec("skimage") is None:
            raise ValueError("ZITS needs the module skimage: pip install 'refine_lib[metrics]'")
        lama = network.generator
        self.conv1, self.bn1, self.n_local = lama.conv1, lama.bn1, lama.conv4.out_channels // 4
        halve = (lama.conv2, lama.bn2), (lama.conv3, lama.bn3), (lama.conv4, lama.bn4)
        self.halve = nn.ModuleList(nn.Sequential(*layers, nn.ReLU()) for layers in halve)
        self.str_encoder, self.structure_upsample = network.str_encoder, network.structure_upsample
        self.transformer, self.wireframe = network.transformer, network.wireframe
        self.note, self.least_px = network.note, network.least_px

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = x[:, :3], x[:, 3:]
        if min(x.shape[-2:]) < LEAST_PX:
            raise ValueError(f"image is {x.shape[-2]} x {x.shape[-1]} px; expected at least {LEAST_PX} px a side")
        with torch.autocast(x.device.type, enabled=False):  # ranks and thresholds are not those of fewer bits
            found = [self.structure(image[i : i + 1], mask[i : i + 1]) for i in range(len(x))]
        return self.featuremaps(image, mask, *(torch.cat(parts) for parts in zip(*found, strict=True)))

    def featuremaps(self, image, mask, edge, line, distance, directions) -> tuple[torch.Tensor, torch.Tensor]:
        """z, from maps of the picture's size."""
        s0, s1, s2, s3 = self.str_encoder(edge, line, mask)
        x = self.conv1(F.pad(torch.cat([torch.where(mask > 0, 0, image), mask], dim=1), [3] * 4, mode="reflect"))
        x = torch.relu(self.bn1(x + self.str_encoder.of_positions(distance, directions)))
        for s, layer in zip((s0, s1, s2), self.halve, strict=True):
            x = layer(x + s)
        local, global_ = (x + s3).tensor_split([self.n_local], dim=1)
        return local, global_

    @torch.no_grad()
    def structure(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Edges and lines (1, 1, H, W), distances (1, H, W) and directions (1, 4, H, W) of a picture (1, 3, H, W).

        They are found in the picture squeezed or stretched to squares. Before that the hole gets the mean of what is known, so
        that nothing of what it holds is seen, and Canny leaves it out. (The authors' Canny sees what is in the hole.)
        """
        distance, directions = positions(mask)
        mean = torch.where(mask > 0, 0, image).sum(dim=(2, 3), keepdim=True) / (mask == 0).sum()
        image = torch.where(mask > 0, mean, image)
        small, hole = squared(image, SIDE), hole_at(mask, SIDE)
        line = torch.zeros_like(hole)
        if self.wireframe is not None:
            line = self.wireframe.drawn(squared(image, WIREFRAME_SIDE), hole_at(mask, WIREFRAME_SIDE), SIDE)
        maps = self.transformer.completed(2 * small - 1, edges(small, hole), line, hole)
        edge, line = (self.structure_upsample.enlarged(m, image.shape[-2:]) for m in maps)
        return edge, line, distance[None], directions[None]


def edges(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Canny's edges of what is known, 0 or 1: (1, 3, H, W), (1, 1, H, W) -> (1, 1, H, W). The hole has none, nor its border."""
    from skimage.feature import canny

    gray = torch.einsum("chw,c->hw", image[0], image.new_tensor(GRAY)).cpu().numpy()
    return torch.from_numpy(canny(gray, SIGMA, mask=(mask[0, 0] == 0).cpu().numpy()))[None, None].to(image)


class ZITSGenerator(nn.Module):
    """The inpainting network of ZITS; the defaults are those of the published one.

    A transformer completes edges and lines at 256 x 256 px. They are doubled until they are as large as the picture, and their
    featuremaps, with those of each pixel's distance from the known, are added in the front of a LaMa.

    Args:
        ngf: channels after the stem, even; the blocks work on ``8 * ngf``.
        n_blocks: residual blocks.
        dim: channels of the transformer, a multiple of 8.
        depth: blocks of the transformer.
        lines: whether there is a wireframe, which finds straight lines. Without it there are edges alone.

    Attributes:
        note: a sentence where there is no wireframe; else empty.
        least_px: side of the smallest picture that is not enlarged for any part of it.

    Shape:
        (B, 4, H, W) -> (B, 3, H, W), H and W multiples of 8. Channels 0-2 are the image in [0, 1], channel 3 is the mask
        (1 = hole). What the image holds in the hole is not looked at. The prediction is in [0, 1], known pixels included.
        Distances, edges and lines are found in the picture squeezed or stretched to a square.

    Raises:
        ValueError: where an argument is out of its range; as it runs, where a side is less than 24 px, where a mask leaves no
            pixel known at 256 x 256 px, and where scikit-image is missing, which finds edges and draws lines.
    """

    multiple = 8  # three halvings
    first_block = 1
    least_px = WIREFRAME_SIDE

    def __init__(self, ngf: int = 64, n_blocks: int = 9, dim: int = 256, depth: int = 16, lines: bool = True):
        super().__init__()
        if ngf < 2 or ngf % 2 or n_blocks < 1:
            raise ValueError(f"ngf is {ngf} and n_blocks {n_blocks}; expected an even number, and at least 1")
        if dim < HEADS or dim % HEADS or depth < 1:
            raise ValueError(f"dim is {dim} and depth {depth}; expected a multiple of {HEADS}, and at least 1")
        self.note = "" if lines else "ZITS has no weights of its wireframe: it looks for edges, and not for lines."
        self.generator, self.str_encoder = StructuredLama(ngf, n_blocks), StructureEncoder(ngf)
        self.structure_upsample, self.transformer = StructureUpsampling(ngf), StructureTransformer(dim, depth)
        self.wireframe = Wireframe(ngf) if lines else None

    @property
    def layers(self) -> nn.Sequential:
        """All layers in their order, as one ``Sequential``: the front, and what LaMa has from its first block on."""
        return nn.Sequential(StructuredFront(self), *self.generator.body(), *self.generator.head())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.Sequential(StructuredFront(self), *self.generator.body())(x)
        return (self.generator.convt4(x).tanh() + 1) / 2


# Of each part, the end of a name that no other part has.
PARTS = {
    "generator": "middle.0.conv1.ffc.convl2l.weight",
    "str_encoder": "rel_pos_emb.weight",
    "structure_upsample": "convs.1.weight",
    "transformer": "blocks.0.rln1.weight",
    "wireframe": "backbone.conv1.weight",
}


def zits_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the parts by this file's names, whatever stands before a part's names; all others are left out."""
    state = {re.sub(r"(middle\.\d+)\.ffc([12])\.", r"\1.conv\2.", name): t for name, t in state.items()}
    prefixes = {}
    for name in state:
        for part, end in PARTS.items():
            if f".{name}".endswith(f".{end}") and prefixes.setdefault(name.removesuffix(end), part) != part:
                raise ValueError(f"{name.removesuffix(end)!r} stands before the names of two parts")
    twice = [part for part in PARTS if list(prefixes.values()).count(part) > 1]
    if twice:
        raise ValueError(f"it holds more than one {twice[0]}")
    found = {}
    for name, t in state.items():
        prefix = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)
        if prefix is not None:
            found[f"{prefixes[prefix]}.{name.removeprefix(prefix)}"] = t
    return found


def zits_arguments(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of the ZITS generator whose state this is."""
    return {
        "ngf": width(state, "generator.conv1.weight"),
        "n_blocks": count(r"generator\.middle\.(\d+)\.conv1\.ffc\.convl2l\.weight", state),
        "dim": width(state, "transformer.conv4.weight"),
        "depth": count(r"transformer\.blocks\.(\d+)\.ln2\.weight", state),
        "lines": any(name.startswith("wireframe.") for name in state),
    }


FILES = {
    "inpaint": "9978cc7157dc29699e42308d675b2154",
    "edge-line": "55e31af21ba96bbf0c80603c76ea8c5f",
    "structure-upsample": "3d88a07211bd41b2ec8cc0d999f29927",
    "wireframe": "a9727c63a8b48b65c905d351b21ce46b",
}
RELEASE = "https://github.com/Sanster/models/releases/download/add_zits"

register(
    Architecture(
        name="ZITS",
        network=ZITSGenerator,
        stem="rel_pos_emb.weight",
        arguments=zits_arguments,
        names=zits_names,
        idle=("tspan", "attn.mask", *(f"upsample.out.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias"))),
        weights={
            "zits": Weights(
                tuple((Source(f"{RELEASE}/zits-{name}-0717.pt", md5=md5, prefix=f"{name}."),) for name, md5 in FILES.items()),
                smallest_scale=512,
            )
        },
    )
)
