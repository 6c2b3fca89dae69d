"""How leaves become a photo: one is laid on the picture, what is far away is blurred, light falls, a shot is taken."""

import math

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d

from refine_lib.workshop import banks


def lay(picture, colors, opacity, shadow, shadow_at, left, top):
    """Lays a colored leaf (3, h, w) of an opacity (h, w) on the picture, in place, after its shadow (h, w) has fallen."""
    if shadow is not None:
        under, (its_part,) = _overlap(picture, left + shadow_at[0], top + shadow_at[1], shadow)
        under.mul_(its_part)
    under, (its_colors, its_opacity) = _overlap(picture, left, top, colors, opacity)
    under.lerp_(its_colors, its_opacity.expand_as(its_colors))


def _overlap(picture, left, top, *patches):
    """The part of the picture that patches at left and top cover, and the parts of the patches that lie in it: views."""
    size, side = picture.shape[-1], patches[0].shape[-1]
    rows = slice(min(max(top, 0), size), max(min(top + side, size), 0))
    columns = slice(min(max(left, 0), size), max(min(left + side, size), 0))
    its_rows = slice(rows.start - top, max(rows.stop, rows.start) - top)
    its_columns = slice(columns.start - left, max(columns.stop, columns.start) - left)
    return picture[:, rows, columns], [patch[..., its_rows, its_columns] for patch in patches]


def blur(picture, sigma):
    """The picture, out of focus: two boxes whose variances add up to sigma squared."""
    width = 2 * round((math.sqrt(6 * sigma**2 + 1) - 1) / 2) + 1
    blurred = picture.numpy()
    for axis in (1, 2, 1, 2):
        blurred = uniform_filter1d(blurred, width, axis=axis, mode="nearest")
    return torch.from_numpy(blurred)


def photograph(picture, rng, bank):
    """The photo (3, size, size) in [0, 1] of linear light: uneven light, vignette, exposure, tone curve and noise."""
    size = picture.shape[-1]
    steps = (torch.arange(size) + 0.5) / size - 0.5
    across, down = steps[None, :], steps[:, None]
    light = 1 + rng.normal(0, 0.25) * across + rng.normal(0, 0.25) * down
    light = light - rng.uniform(0, 0.8) * (rng.random() < 0.5) * (across**2 + down**2)
    if rng.random() < 0.3:  # sun through a canopy, or clouds
        atlas, kinds = banks.textures(bank), banks.TEXTURE_RANGES
        u, v = ((part * rng.uniform(0.1, 0.4) + 1 + rng.random()) % 1 for part in (across, down))
        u, v = u.expand(1, size, size), v.expand(1, size, size)
        patches = banks.look_up(atlas, torch.tensor([[[rng.integers(*kinds["noise"])]]]), u, v)[0, 0]
        light = light * (1 + rng.uniform(0.05, 0.3) * patches)
    picture = picture * light.clamp(min=0.15)

    # Exposed for the mean; the brightest parts roll off. A root is the display's gamma, near enough.
    picture = picture * (math.exp(rng.normal(-1.35, 0.35)) / float(picture.numpy().mean()))  # torch's depends on the threads
    white = rng.uniform(1.5, 4)
    picture = (picture * (1 + picture / white**2) * 1.25 / (1 + picture)).clamp_(0, 1).sqrt_()
    contrast = rng.uniform(0, 0.7)
    picture = picture.lerp(picture * picture * (3 - 2 * picture), contrast)
    noise = abs(rng.normal(0, 0.01))
    return picture.add_(torch.from_numpy(rng.standard_normal(picture.shape, np.float32)), alpha=noise).clamp_(0, 1)
