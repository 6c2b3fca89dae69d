"""What leads the smallest levels of a run: the network's plain fill, that of another network, or a picture from a file."""

from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from refine_lib.masks import paste
from refine_lib.networks import EMBEDDED, load_network
from refine_lib.photos.guides import Guide
from refine_lib.photos.windows import Window
from refine_lib.pyramid import build_pyramid, level_sizes

PLAIN, FILE = "the small plain fill", "a picture from a file"
Lead = Guide | str | None  # a picture, the name of another network, or the plain fill


def other_networks(model) -> list[str]:
    """The names of the embedded networks that are not this one."""
    weights = [*model.parameters()] if hasattr(model, "parameters") else []
    names = []
    for name, path in EMBEDDED.items():
        with safe_open(path, "pt") as file:
            one = next(t for t in map(file.get_tensor, file.keys()) if t.ndim == 4).float()
        if not any(w.shape == one.shape and torch.equal(w.detach().cpu().float(), one) for w in weights):
            names.append(name)
    return names


def name_of(lead: Lead) -> str:
    """What the table of runs calls it."""
    return "a picture" if isinstance(lead, Guide) else lead or ""


def sizes_for(lead: Lead, window: Window, smallest_scale: float) -> list[tuple[int, int]]:
    """(H, W) of the levels of a window, smallest first."""
    return lead.levels(window, smallest_scale) if isinstance(lead, Guide) else level_sizes(*window.size, smallest_scale)


@torch.no_grad()
def settings_for(
    lead: Lead, window: Window, image: torch.Tensor, mask: torch.Tensor, photo: np.ndarray, hole: np.ndarray, scale: float
) -> dict[str, Any]:
    """What ``multiscale_inpaint`` takes for a window beside the settings: ``guide``, and ``smallest_scale`` where it changes.

    Args:
        image, mask: of the window, (B, 3, h, w) and (B, 1, h, w).
        photo, hole: in full, (H, W, 3) and (H, W).
        scale: the settings' ``smallest_scale``.
    """
    if isinstance(lead, Guide):
        settings = lead.settings(window, sizes_for(lead, window, scale), photo, hole)
        return settings | {"guide": settings["guide"].to(image).expand(len(image), -1, -1, -1)}
    if not lead:
        return {}
    network = load_network(lead, image.device).to(image.dtype)
    level = build_pyramid(image, mask, scale)[0]
    return {"guide": paste(network(level.image, level.mask).clamp(0, 1), level.image, level.mask)}
