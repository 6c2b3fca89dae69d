"""What a training minimizes: L1 in the hole and outside it, a distance of features, and what a discriminator says.

Adversarial loss, feature matching and R1 in the manner of LaMa (Suvorov et al., 2021, section 2.3): patches are told apart only
where they touch the hole.
"""

import torch
import torch.nn.functional as F
from torch import nn

EVERY = 8  # steps between two penalties of the discriminator's gradient (R1), which cost as much as the rest of its step


class Discriminator(nn.Module):
    """Says of each patch of a picture whether what lies in the hole was drawn or filled: four layers, three halve the size.

    It sees the mask too: without it, and with Adam in place of Muon, it learns little (``discriminators`` measures it).

    Shape: pictures (B, 3, H, W) in [0, 1] and masks (B, 1, H, W) -> logits (B, 1, H/8, W/8), above 0 for drawn, and the
    features of each layer.
    """

    def __init__(self, channels=(32, 64, 128, 128)):
        super().__init__()
        shapes = zip((4, *channels), channels, ((4, 2), (4, 2), (4, 2), (3, 1)), strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(n_in, n_out, size, stride, 1) for n_in, n_out, (size, stride) in shapes)
        self.logits = nn.Conv2d(channels[-1], 1, 3, 1, 1)

    def forward(self, image, mask):
        x, found = torch.cat([2 * image - 1, mask], dim=1).contiguous(memory_format=torch.channels_last), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            found.append(x)
        return self.logits(x), found


def touched(mask):
    """The patches with a part of the hole in the 24 px around them: (B, 1, H, W) -> (B, 1, H/8, W/8), 1 or 0."""
    return F.max_pool2d(mask, 24, stride=8, padding=8)


def penalty_at(step, penalty):
    """R1's weight in a step: all of what ``EVERY`` steps should have in one of them, 0 in the others."""
    return EVERY * penalty if step % EVERY == 0 else 0.0


def told_by(discriminator, real, fake, mask, penalty=0.0):
    """What a discriminator learns and what it tells a generator, from one look at the pictures.

    Shape: real and fake (B, 3, H, W), mask (B, 1, H, W) -> three numbers ().

    Args:
        penalty: weight of the squared gradient at real pictures (R1); 0 leaves it out.

    Returns:
        judged: what the discriminator minimizes. At the hole, patches of drawn pictures are real and of filled ones fake.
        adversarial: how fake the filled ones look there. The generator minimizes it, and the last one.
        matching: how far the features of the filled pictures are from those of the real ones, L1.
    """
    at_hole = touched(mask)
    real = real.detach().requires_grad_(penalty > 0)
    (said_of_real, wanted), (said_of_fake, found) = discriminator(real, mask), discriminator(fake, mask)

    def mean(values):
        return (at_hole * values).sum() / at_hole.sum().clamp(min=1)

    judged = mean(F.softplus(-said_of_real) + F.softplus(said_of_fake))
    if penalty > 0:
        (gradient,) = torch.autograd.grad(said_of_real.sum(), real, create_graph=True)
        judged = judged + penalty * gradient.square().sum((1, 2, 3)).mean()
    matching = torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(found, wanted, strict=True)]).mean()
    return judged, mean(F.softplus(-said_of_fake)), matching


def feature_distance(features, filled, image):
    """The distance of ``SceneFeatures`` between filled pictures and the truth, at their own size: 0 is the same.

    The network knows pictures of 128 px. To bring these of 64 px there costs three times as much and shows it nothing more.

    Shape: (B, 3, H, W) in [0, 1] each -> ().
    """
    with torch.no_grad():
        wanted = _maps(features, image)
    return features.distance_of_maps(_maps(features, filled), wanted).mean()


def _maps(features, image):
    found = [2 * image - 1]
    for stage in features.stages:
        found.append(stage(found[-1]))
    return found[1:]
