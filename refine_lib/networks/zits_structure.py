"""ZITS, what it knows of a hole: how far a pixel is from the known, larger edges and lines, and featuremaps of all these."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_cdt
from torch import nn

SIDE = 256  # pixels, of the square picture on which distances, edges and lines are found
FARTHEST = 127  # pixels from the known, of those that have features of their own


def squared(x: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures (B, C, H, W) as squares (B, C, side, side): bilinear where H or W is smaller, else ``by_area``."""
    if min(x.shape[-2:]) < side:
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=max(x.shape[-2:]) > side)
    return by_area(x, side)


def by_area(x: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures as squares, each pixel the mean of the area that it covers: (B, C, H, W) -> (B, C, side, side)."""

    def shares(n):
        ends = torch.arange(side + 1, dtype=torch.float64, device="cpu")[:, None] * n / side
        pixels = torch.arange(n, dtype=torch.float64, device="cpu")
        covered = torch.minimum(ends[1:], pixels + 1) - torch.maximum(ends[:-1], pixels)
        return (covered.clamp(min=0) * side / n).to(x)

    return shares(x.shape[-2]) @ x @ shares(x.shape[-1]).T


def hole_at(mask: torch.Tensor, side: int) -> torch.Tensor:
    """Masks (B, 1, H, W) as squares (B, 1, side, side): 1 where a pixel covers anything of the hole."""
    return (by_area(mask, side) > 1e-4).to(mask)


def positions(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a pixel of the hole lies, as seen on a mask of 256 x 256 px.

    There d is a pixel's chessboard distance to the known. Bit c of its directions is 1 where d - 1 is among the 2 x 2 pixels
    that have the pixel in a corner: up-left, down-left, up-right, down-right. Beyond the border the picture is mirrored.

    Args:
        mask: (1, 1, H, W), 1 = hole.

    Returns:
        min(d, 127), (H, W), whole numbers; and the directions, (4, H, W). Both are 0 where the mask is.

    Raises:
        ValueError: where nothing is known at 256 x 256 px.
    """
    hole = hole_at(mask, SIDE)[0, 0].cpu().numpy() > 0
    if hole.all():
        raise ValueError(f"mask leaves no known pixel at {SIDE} x {SIDE} px, where ZITS looks at it; expected some")
    d: Any = distance_transform_cdt(hole, "chessboard") if hole.any() else np.zeros(hole.shape, int)
    seen = np.pad(d, 1, mode="reflect")
    least = np.minimum(seen[1:], seen[:-1])
    least = np.minimum(least[:, 1:], least[:, :-1])  # of 2 x 2 pixels
    corners = [least[:-1, :-1], least[1:, :-1], least[:-1, 1:], least[1:, 1:]]
    found = np.stack([np.minimum(d, FARTHEST), *((corner == d - 1) & hole for corner in corners)])
    (height, width), known = mask.shape[-2:], mask[0] == 0
    rows, columns = (np.arange(n) * SIDE // n for n in (height, width))
    placed = torch.from_numpy(found[:, rows][:, :, columns]).to(mask.device).masked_fill(known, 0)
    return placed[0].long(), placed[1:].to(mask)


class StructureUpsampling(nn.Module):
    """Doubles a map of edges or of lines: (B, 1, H, W) -> logits (B, 1, 2 H, 2 W)."""

    def __init__(self, n: int):
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, n, 7)]
        for n_out in (n, n, 1):
            layers += [nn.ReLU(), nn.Conv2d(n, n_out, 3, padding=1)]
        self.convs = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))

    def enlarged(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """A square map (B, 1, n, n) in [0, 1], doubled until it is as large as the longer side, then fitted to (H, W)."""
        while x.shape[-1] < max(size):
            x = torch.sigmoid(2 * (self(x) + 2))
        size = tuple(size)
        return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


class Gated(nn.Module):
    """A convolution of twice the channels: the first half times the sigmoid of the second."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], n_in: int, n_out: int, *geometry: Any):
        super().__init__()
        self.gate_conv = kind(n_in, 2 * n_out, *geometry)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, gate = self.gate_conv(x).chunk(2, dim=1)
        return x * torch.sigmoid(gate)


class DilatedBlock(nn.Module):
    """x + bn2(conv2(relu(bn1(conv1(x))))), the first convolution of rate 2."""

    def __init__(self, n: int):
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(n, n, 3, dilation=2))
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3))
        self.bn1, self.bn2 = nn.BatchNorm2d(n), nn.BatchNorm2d(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


class StructureEncoder(nn.Module):
    """Featuremaps of edges, lines and positions, which are added to LaMa's: ``alpha1`` to ``alpha6`` are their weights."""

    def __init__(self, n: int):
        super().__init__()
        for i in range(1, 7):
            self.register_parameter(f"alpha{i}", nn.Parameter(torch.ones(())))
        halve: Any = 4, 2, 1  # kernel size, stride, padding
        self.conv1, self.bn1 = Gated(nn.Conv2d, 3, n, 7), nn.BatchNorm2d(n)
        self.conv2, self.bn2 = Gated(nn.Conv2d, n, 2 * n, *halve), nn.BatchNorm2d(2 * n)
        self.conv3, self.bn3 = nn.Conv2d(2 * n, 4 * n, *halve), nn.BatchNorm2d(4 * n)
        self.conv4, self.bn4 = nn.Conv2d(4 * n, 8 * n, *halve), nn.BatchNorm2d(8 * n)
        self.middle = nn.Sequential(*(DilatedBlock(8 * n) for _ in range(3)))
        self.convt1, self.bnt1 = Gated(nn.ConvTranspose2d, 8 * n, 4 * n, *halve), nn.BatchNorm2d(4 * n)
        self.convt2, self.bnt2 = Gated(nn.ConvTranspose2d, 4 * n, 2 * n, *halve), nn.BatchNorm2d(2 * n)
        self.convt3, self.bnt3 = Gated(nn.ConvTranspose2d, 2 * n, n, *halve), nn.BatchNorm2d(n)
        self.rel_pos_emb, self.direct_emb = nn.Embedding(FARTHEST + 1, n), nn.Embedding(4, n)
        turns = torch.arange(FARTHEST + 1)[:, None] / 10000 ** (torch.arange(n // 2) / (n // 2))
        self.rel_pos_emb.weight = nn.Parameter(torch.cat([turns.sin(), turns.cos()], dim=1), requires_grad=False)

    def forward(self, edge: torch.Tensor, line: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, 1, H, W) -> S0, S1, S2, S3: (B, n, H, W), and each half as large and twice as deep as the one before."""
        x = F.pad(torch.cat([edge, line, mask], dim=1), [3] * 4, mode="reflect")
        for i in range(1, 5):
            x = torch.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x)))
        x = self.middle(x)
        found = [self.get_parameter("alpha1") * x]
        for i in range(1, 4):
            x = torch.relu(self.get_submodule(f"bnt{i}")(self.get_submodule(f"convt{i}")(x)))
            found.append(self.get_parameter(f"alpha{i + 1}") * x)
        return found[::-1]

    def of_positions(self, distance: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """What ``positions`` gives, (B, H, W) and (B, 4, H, W) -> featuremaps P + D, (B, n, H, W)."""
        p = self.rel_pos_emb(distance).permute(0, 3, 1, 2)
        d = torch.einsum("bchw,cn->bnhw", directions, self.direct_emb.weight)
        return self.get_parameter("alpha5") * p + self.get_parameter("alpha6") * d
