"""A small feature network for drawn scenes: stands in where Inception and VGG, which FID and LPIPS are made of, cannot be had.

What is measured with it is never called FID or LPIPS: it has seen drawn scenes only. It was trained to tell a scene's
pattern, and what was done to a part of it (the workshop's ``train_features``). So it does not know the networks that it
judges.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from refine_lib.pyramid import downscale, resize

WEIGHTS = Path(__file__).with_name("scene_features.safetensors")
SIZE = 128  # px, to which pictures are brought
WIDTHS = (16, 24, 32, 48)  # channels of the stages
PATTERN, DAMAGE = 6, 5  # kinds that it was trained to tell


class SceneFeatures(nn.Module):
    """Four stages, each of half the size of the one before.

    Shape: pictures (B, 3, H, W) in [0, 1] -> features (B, 48).

    Convention: pictures are brought to 128 px bilinearly, without antialias, as FID brings its own to 299 px.
    """

    num_features = WIDTHS[-1]  # by this name torchmetrics asks

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(_stage(*pair) for pair in zip((3, *WIDTHS), WIDTHS, strict=False))
        self.pattern = nn.Linear(WIDTHS[-1], PATTERN)
        self.damage = nn.Linear(WIDTHS[-1], DAMAGE)

    def maps(self, image):
        """The featuremap of each stage: [(B, 16, 64, 64), ..., (B, 48, 8, 8)]."""
        x = 2 * F.interpolate(image, (SIZE, SIZE), mode="bilinear", align_corners=False) - 1
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, image):
        return self.features_of_maps(self.maps(image))

    @staticmethod
    def features_of_maps(maps):
        """The same from what ``maps`` gives."""
        return maps[-1].mean(dim=(2, 3))

    def distance(self, a, b):
        """How differently two pictures look to the network, in the manner of LPIPS: 0 is the same.

        The featuremaps of each stage, every place's channels brought to length 1, squared difference, mean over the places
        and the stages; without LPIPS's weights, which people's judgement gave.

        Shape: (B, 3, H, W) in [0, 1] each -> (B,).
        """
        return self.distance_of_maps(self.maps(a), self.maps(b))

    @staticmethod
    def distance_of_maps(a, b):
        """The same from what ``maps`` gives."""
        pairs = zip(a, b, strict=True)
        return torch.stack([(F.normalize(x) - F.normalize(y)).square().sum(1).mean((1, 2)) for x, y in pairs]).mean(0)


def _stage(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False, padding_mode="reflect"),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1, bias=False, padding_mode="reflect"),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


def load_scene_features(device="cpu"):
    """The network with its embedded weights, in eval mode, frozen, in float32."""
    network = SceneFeatures()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval().requires_grad_(False).to(device)


def damaged(image, hole, kind):
    """Pictures (B, 3, H, W), under the hole blurred (1), moved (2), replaced (3) or made noisy (4), by kind (B,)."""
    blurred = resize(downscale(downscale(image)), image.shape[-2:])
    others = [image, blurred, image.roll((9, 14), dims=(2, 3)), image.roll(1, dims=0), image + 0.15 * torch.randn_like(image)]
    chosen = torch.stack(others).gather(0, kind.view(1, -1, 1, 1, 1).expand(1, *image.shape))[0]
    return torch.where(hole > 0, chosen, image).clamp(0, 1)
