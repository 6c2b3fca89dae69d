"""ZITS, the wireframe: straight lines of a picture of 512 x 512 px, found by two stacked hourglasses (HAWP)."""

from math import pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIDE = 512  # pixels, of the picture that is looked at
MEAN, STD = (109.730, 103.832, 98.681), (22.275, 22.124, 23.229)  # of its values, 0..255
REACH = 5  # pixels of a map, of the distance 1
LEAST_JUNCTION, MOST_JUNCTIONS = 0.008, 300
POINTS, TOGETHER = 32, 4  # along a line; of which the largest values are taken
LEAST_SCORE = 0.05
DRAWN_SCORE = 0.85
EPS = 1e-3


class Bottleneck(nn.Module):
    """Norm, ReLU and convolution three times, of which the second is 3x3; and x: (B, C, H, W) -> (B, 2 n, H, W)."""

    def __init__(self, n_in: int, n: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(n_in), nn.Conv2d(n_in, n, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(n), nn.Conv2d(n, n, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(n), nn.Conv2d(n, 2 * n, 1)
        self.downsample = nn.Sequential(*[nn.Conv2d(n_in, 2 * n, 1)] * (n_in != 2 * n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.conv1(torch.relu(self.bn1(x)))
        change = self.conv2(torch.relu(self.bn2(change)))
        return self.downsample(x) + self.conv3(torch.relu(self.bn3(change)))


class Hourglass(nn.Module):
    """Four halvings within one another: ``hg[n]`` has the layers of the n-th from within."""

    def __init__(self, n: int):
        super().__init__()
        self.hg = nn.ModuleList(
            nn.ModuleList(nn.Sequential(Bottleneck(2 * n, n)) for _ in range(3 if i else 4)) for i in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._at(3, x)

    def _at(self, depth, x):
        layers = list(self.hg.get_submodule(str(depth)).children())
        low = layers[1](F.max_pool2d(x, 2))
        low = layers[2](self._at(depth - 1, low) if depth else layers[3](low))
        return layers[0](x) + F.interpolate(low, scale_factor=2)


class Score(nn.Module):
    """The maps of a stack: three angles, distance, residual, no junction and junction, its offset; (B, 9, H, W)."""

    def __init__(self, n_in: int, n: int):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n_in, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, n_out, 1)) for n_out in (3, 1, 1, 2, 2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([head(x) for head in self.heads], dim=1)


class Backbone(nn.Module):
    """From a picture (B, 3, H, W) to featuremaps (B, 4 n, H/4, W/4) and maps (B, 9, H/4, W/4)."""

    def __init__(self, n: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, n, 7, stride=2, padding=3), nn.BatchNorm2d(n)
        self.layer1, self.layer2 = nn.Sequential(Bottleneck(n, n)), nn.Sequential(Bottleneck(2 * n, 2 * n))
        self.layer3 = nn.Sequential(Bottleneck(4 * n, 2 * n))
        self.hg = nn.ModuleList(Hourglass(2 * n) for _ in range(2))
        self.res = nn.ModuleList(nn.Sequential(Bottleneck(4 * n, 2 * n)) for _ in range(2))
        self.fc = nn.ModuleList(nn.Sequential(nn.Conv2d(4 * n, 4 * n, 1), nn.BatchNorm2d(4 * n), nn.ReLU()) for _ in range(2))
        self.score = nn.ModuleList(Score(4 * n, n) for _ in range(2))
        self.fc_, self.score_ = nn.ModuleList([nn.Conv2d(4 * n, 4 * n, 1)]), nn.ModuleList([nn.Conv2d(9, 4 * n, 1)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layer1(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(F.max_pool2d(x, 2)))
        y = self.fc[0](self.res[0](self.hg[0](x)))
        x = x + self.fc_[0](y) + self.score_[0](self.score[0](y))
        y = self.fc[1](self.res[1](self.hg[1](x)))
        return y, self.score[1](y)


class Wireframe(nn.Module):
    """Straight lines of a picture with a hole. ``n`` is the number of channels of its first featuremap."""

    def __init__(self, n: int = 64):
        super().__init__()
        n_values = 2 * n * POINTS // TOGETHER
        self.backbone, self.fc1 = Backbone(n), nn.Conv2d(4 * n, 2 * n, 1)
        dense = [nn.Linear(n_values, n_out) for n_out in (n_values, n_values, 1)]
        self.fc2 = nn.Sequential(dense[0], nn.ReLU(), dense[1], nn.ReLU(), dense[2])

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lines and how sure they are.

        Args:
            image: (1, 3, 512, 512) in [0, 1]. What it holds in the hole is not looked at.
            mask: (1, 1, 512, 512), 1 = hole.

        Returns:
            (N, 4), the ends (x, y, x, y) of lines in shares of the sides; and scores (N,) in [0, 1], 0.05 at least.
        """
        mean, std = (image.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        y, maps = self.backbone((torch.where(mask > 0, 127.5, 255 * image) - mean) / std)
        ends = junctions(maps[0])[0]
        pairs = proposals(maps[0], ends)
        first, second = ends[pairs].unbind(dim=1)
        scores = self._scores(self.fc1(y), first, second)
        kept = scores > LEAST_SCORE
        return torch.cat([first, second], dim=1)[kept] / maps.shape[-1], scores[kept]

    def _scores(self, features, first, second):
        """How sure it is that there are lines, from features (1, C, h, w) at points between their ends (N, 2): (N,)."""
        t = torch.linspace(0, 1, POINTS, dtype=torch.float32, device="cpu").to(features)[:, None]
        places = first[:, None] * t + second[:, None] * (1 - t) - 0.5  # where a pixel's middle is a whole number
        last = torch.tensor(features.shape[:1:-1]).to(places) - 1
        low = places.floor().clamp(min=0).minimum(last)
        high = (low + 1).minimum(last)
        below, above = high - places, places - low  # beyond the border these go on, below 0 and above 1
        (x0, y0), (x1, y1) = low.long().unbind(-1), high.long().unbind(-1)
        found = features.new_zeros(())
        for x, share_x in ((x0, below[..., 0]), (x1, above[..., 0])):
            for y, share_y in ((y0, below[..., 1]), (y1, above[..., 1])):
                found = found + features[0][:, y, x] * share_x * share_y
        found = F.max_pool1d(found.transpose(0, 1), TOGETHER).flatten(1)
        return torch.sigmoid(self.fc2(found)[:, 0])

    def drawn(self, image: torch.Tensor, mask: torch.Tensor, side: int) -> torch.Tensor:
        """The sure lines as a picture (1, 1, side, side) in [0, 1], with soft borders. Arguments are as in ``forward``."""
        from skimage.draw import line_aa

        lines, scores = self(image, mask)
        picture = np.zeros((side, side))
        ends = (lines[scores > DRAWN_SCORE] * side).long().clamp(0, side - 1).tolist()
        for x0, y0, x1, y1 in ends:
            rows, columns, shares = line_aa(y0, x0, y1, x1)
            inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
            np.maximum.at(picture, (rows[inside], columns[inside]), shares[inside])
        return torch.from_numpy(picture)[None, None].to(image)


def junctions(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (N, 2), x and y in pixels, and scores (N,) of the junctions in maps (9, h, w), the surest first."""
    scores = maps[5:7].softmax(dim=0)[1]
    scores = scores.where(scores == F.max_pool2d(scores[None], 3, stride=1, padding=1)[0], 0)
    n = min(MOST_JUNCTIONS, int((scores > LEAST_JUNCTION).sum()))
    scores, index = scores.flatten().topk(n)
    offset = torch.sigmoid(maps[7:]).flatten(1)[:, index].T - 0.5
    width = maps.shape[-1]
    return torch.stack([index % width, index // width], dim=1) + offset + 0.5, scores


def proposals(maps: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The pairs of junctions, numbers (N, 2), between which the maps (9, h, w) see lines.

    A pixel sees a line at the distance d in the direction a, with ends in the directions s > 0 and e < 0 from there: at
    pixel + d (cos a - sin a tan, sin a + cos a tan). d is shortened and prolonged by the residual, too.
    """
    if len(ends) < 2:
        return torch.zeros(0, 2, dtype=torch.long, device=maps.device)
    height, width = maps.shape[-2:]
    a, s, e, d, residual = torch.sigmoid(maps[:5])
    a, s, e = (a - 0.5) * 2 * pi, s * pi / 2, e * pi / 2
    y, x = torch.meshgrid(torch.arange(height).to(maps), torch.arange(width).to(maps), indexing="ij")
    d = REACH * torch.stack([d - residual, d, d + residual])
    nearest = []
    for sign, angle in ((1, s), (-1, e)):
        tangent = sign * angle.sin().clamp(min=EPS) / angle.cos().clamp(min=EPS)
        end_x = (x + d * (a.cos() - a.sin() * tangent)).clamp(0, width - 1)
        end_y = (y + d * (a.sin() + a.cos() * tangent)).clamp(0, height - 1)
        place = torch.stack([end_x, end_y], dim=-1).view(-1, 2)
        nearest.append(torch.cat([torch.cdist(part, ends).argmin(dim=1) for part in place.split(8192)]))
    pairs = torch.stack(nearest, dim=1).sort(dim=1).values
    return pairs[pairs[:, 0] < pairs[:, 1]].unique(dim=0)
