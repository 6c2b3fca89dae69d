"""A guide for a photo: a smaller picture of it with the hole filled by whatever else, and the part of it for each window."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from refine_lib.checks import SMALLEST_SIDE, check_guide_size
from refine_lib.networks.registry import WEIGHTS
from refine_lib.photos.pixels import read_pixels, to_image, to_pixels
from refine_lib.photos.plain import plain_inpaint
from refine_lib.photos.windows import Window
from refine_lib.pyramid import build_pyramid, level_of_guide, level_sizes, number_of_levels, with_known
from refine_lib.result import Result


def is_network(guide: Any) -> bool:
    """Whether a guide is a network that is to fill a small picture of the photo, or the name of one."""
    return isinstance(guide, torch.nn.Module) or isinstance(guide, str) and guide in WEIGHTS


def small_and_filled(model: Any, colors: np.ndarray, hole: np.ndarray, smallest_scale: float, **shown: Any) -> Result:
    """The smallest level of a whole photo, filled by a network's plain prediction: a guide.

    Args:
        colors, hole: of the photo, (H, W, 3) or (H, W), and (H, W).
        shown: ``callback`` and ``progress``, as in ``plain_inpaint``.
    """
    level = build_pyramid(to_image(colors), torch.from_numpy(hole)[None, None].float(), smallest_scale)[0]
    return plain_inpaint(level.image, level.mask, model, **shown)


class Guide:
    """A guide of 8 bits a channel, turned upright, for a photo of ``size`` (H, W).

    Raises:
        FileNotFoundError, TypeError, ValueError: where it is no picture, larger than the photo, or of other proportions.
    """

    def __init__(self, guide: Any, size: tuple[int, int]):
        self.pixels = read_pixels(guide, argument="guide", wanted="the path of a picture, the photo with its hole filled")
        self.size = size
        check_guide_size(self.pixels.shape[:2], size)
        self.share = self.pixels.shape[0] / size[0], self.pixels.shape[1] / size[1]
        self._known: Image.Image | None = None

    def levels(self, window: Window, smallest_scale: float) -> list[tuple[int, int]]:
        """(H, W) of a window's levels from the guide's on. They are as many as the whole photo has, where that is possible.

        So the guide is enlarged for a window only where it is for the whole photo.
        """
        halvings = number_of_levels(*self.size, smallest_scale) - 1
        sizes = level_sizes(*window.size, max(SMALLEST_SIDE, min(window.size) / 2**halvings))
        own = [round(n * share) for n, share in zip(window.size, self.share, strict=True)]
        return sizes[level_of_guide(own, sizes) :]

    def settings(self, window: Window, levels: list[tuple[int, int]], colors: np.ndarray, hole: np.ndarray) -> dict:
        """What ``multiscale_inpaint`` takes for a window: ``guide`` and ``smallest_scale``.

        Args:
            levels: as above.
            colors, hole: of the photo, (H, W, 3) or (H, W), and (H, W).
        """
        scale = max(SMALLEST_SIDE, min(window.size) / 2 ** (len(levels) - 1))
        if window.size == self.size:
            return {"guide": to_image(self.pixels), "smallest_scale": scale}
        if self._known is None:
            known = with_known(to_image(self.pixels), to_image(colors), torch.from_numpy(hole)[None, None].float())
            self._known = Image.fromarray(to_pixels(known))
        down, right = self.share
        box = (window.left * right, window.top * down, window.right * right, window.bottom * down)
        part = self._known.resize((levels[0][1], levels[0][0]), Image.Resampling.BICUBIC, box)  # filtered against aliasing
        return {"guide": to_image(np.asarray(part)), "smallest_scale": scale}
