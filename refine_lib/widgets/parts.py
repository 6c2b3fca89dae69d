"""The part of a photo that a run computes, and a photo with its hole filled, of which only the hole's pixels are held."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from refine_lib.fast.memory import HELD_PER_BYTE, Budget, available_memory, bytes_per_pixel
from refine_lib.fast.plans import ROOMY_BYTES_PER_PX, SMALL_PX
from refine_lib.fast.speed import sped_up
from refine_lib.networks.probe import device_of
from refine_lib.optimizers import OPTIMIZERS
from refine_lib.photos.inpaint import KEPT_BYTES_PER_PIXEL
from refine_lib.photos.windows import WORTH_WINDOWS, Window, plan_windows
from refine_lib.pyramid import level_sizes
from refine_lib.result import work_of
from refine_lib.widgets.controls import Settings

CONTEXT = 0.5  # what a window shows to each side of its hole, as a share of the hole's longer side


def budget_for(model, settings: Settings, n_pixels: int) -> Budget:
    """Memory for runs on parts of a picture of so many pixels. Where it is ample, the network is not measured."""
    available = available_memory(device_of(model, torch.device("cpu"))) - KEPT_BYTES_PER_PIXEL * n_pixels
    if n_pixels <= SMALL_PX and available >= ROOMY_BYTES_PER_PX * n_pixels:
        return Budget(ROOMY_BYTES_PER_PX, available)
    faster, _ = sped_up(model, whole=settings.loss == "code")
    return Budget(HELD_PER_BYTE * bytes_per_pixel(faster, OPTIMIZERS[settings.optimizer]), max(available, 0))


def window_for(hole: np.ndarray, settings: Settings, budget: Budget) -> Window:
    """The smallest window that holds all holes, where that takes less than half of the work; else the whole picture.

    Args:
        hole: (H, W), bool.
        settings: of the run.
        budget: of memory. Where it does not hold the whole, the window is taken in any case.
    """
    height, width = hole.shape
    whole = Window(0, height, 0, width, 1)
    try:
        first, *others = plan_windows(hole, "auto", CONTEXT, settings.smallest_scale, budget, settings.n_iters)[0] or [whole]
    except MemoryError:  # the panel says so beside the estimate
        return whole
    for other in others:
        first = first.union(other)
    fits, share = budget.holds(height, width), _work(first, settings) / _work(whole, settings)
    return whole if others and fits and share >= WORTH_WINDOWS else first


def _work(window: Window, settings: Settings) -> int:
    return sum(work_of(level_sizes(*window.size, settings.smallest_scale), settings.n_iters))


@dataclass(eq=False)
class Filled:
    """A photo with its hole filled. The photo is shared, and only the pixels of the hole are held beside it.

    Attributes:
        photo: (H, W, 3), uint8.
        window: the part that was computed.
        hole: (h, w), bool, of the window.
        colors: of the hole's pixels, (n, 3), or the part in the size of a smaller level, (h', w', 3). None before there is one.
    """

    photo: np.ndarray
    window: Window
    hole: np.ndarray
    colors: np.ndarray | None = None

    def take(self, part: np.ndarray) -> None:
        """Takes the window's pixels, (h, w, 3), or those of a smaller level."""
        self.colors = part[self.hole] if part.shape[:2] == self.hole.shape else part

    @property
    def pixels(self) -> np.ndarray | None:
        """The whole photo, (H, W, 3), outside of the hole bit for bit; made when asked for."""
        colors = self.colors
        if colors is None:
            return None
        if colors.ndim == 3:  # not by torch, which may lack memory
            size = self.window.size[1], self.window.size[0]
            colors = np.asarray(Image.fromarray(colors).resize(size, Image.Resampling.BILINEAR))[self.hole]
        pixels = self.photo.copy()
        pixels[self.window.part][self.hole] = colors
        return pixels
