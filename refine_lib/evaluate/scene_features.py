"""A small feature network for drawn scenes, for where Inception and VGG, which FID and LPIPS are made of, cannot be had.

What is measured with it is never called FID or LPIPS, because it has seen drawn scenes only. It was trained to tell a scene's
pattern, and what was done to a part of the scene (the workshop's ``train_features``). So it has not seen what the networks
that it judges make.
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

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(_stage(*pair) for pair in zip((3, *WIDTHS), WIDTHS, strict=False))
        self.pattern = nn.Linear(WIDTHS[-1], PATTERN)
        self.damage = nn.Linear(WIDTHS[-1], DAMAGE)

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The featuremap of each stage: [(B, 16, 64, 64), ..., (B, 48, 8, 8)]."""
        found = [2 * F.interpolate(image, (SIZE, SIZE), mode="bilinear", align_corners=False) - 1]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[1:]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.maps(image)[-1].mean(dim=(2, 3))

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """How differently two pictures look to the network, in the manner of LPIPS: 0 is the same.

        The channels at each place of each stage's featuremap are brought to length 1. The distance is the squared difference,
        averaged over the places and the stages. It lacks LPIPS's weights, which come from people's judgment.

        Shape: (B, 3, H, W) in [0, 1] each -> (B,).
        """
        return self.distance_of_maps(self.maps(a), self.maps(b))

    @staticmethod
    def distance_of_maps(a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        """The same from what ``maps`` gives."""
        pairs = zip(a, b, strict=True)
        return torch.stack([(F.normalize(x) - F.normalize(y)).square().sum(1).mean((1, 2)) for x, y in pairs]).mean(0)


def _stage(n_in, n_out):
    layers = []
    for n, stride in ((n_in, 2), (n_out, 1)):
        convolution = nn.Conv2d(n, n_out, 3, stride=stride, padding=1, bias=False, padding_mode="reflect")
        layers += [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers)


def load_scene_features(device: torch.device | str = "cpu") -> SceneFeatures:
    """The network with its embedded weights, in eval mode, frozen, in float32."""
    network = SceneFeatures()
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval().requires_grad_(False).to(device)


def damaged(image: torch.Tensor, hole: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    """Pictures that are wrong in a known way inside the hole: by kind left as they are (0), blurred (1), moved (2), replaced by
    the next one (3) or made noisy (4).

    Shape: image (B, 3, H, W) in [0, 1], hole (B, 1, H, W), 1 = hole, kind (B,) of whole numbers -> (B, 3, H, W).
    """
    blurred = resize(downscale(downscale(image)), image.shape[-2:])
    others = [image, blurred, image.roll((9, 14), dims=(2, 3)), image.roll(1, dims=0), image + 0.15 * torch.randn_like(image)]
    chosen = torch.stack(others).gather(0, kind.view(1, -1, 1, 1, 1).expand(1, *image.shape))[0]
    return torch.where(hole > 0, chosen, image).clamp(0, 1)
