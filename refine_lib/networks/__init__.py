"""The networks that come with the package, and ``load_network``, which finds one by its name or by a file's path."""

import os
from pathlib import Path
from typing import Any

import torch

from refine_lib.device import pick_device, plainly
from refine_lib.networks.probe import check_weights
from refine_lib.networks.published import published_generator
from refine_lib.networks.registry import WEIGHTS, Weights, load_generator, why_not_split
from refine_lib.networks.split import SplitNetwork, split_network

# Each registers its kind of network. A new kind is named here.
from refine_lib.networks import lama, aotgan, mat, zits, latent_diffusion  # noqa: F401  # isort: skip

EMBEDDED = {name: weights.path for name, weights in WEIGHTS.items() if weights.path}


@plainly
def load_network(
    name_or_path: str | Path = "mini-lama", device: torch.device | str | None = None, progress: bool = True
) -> SplitNetwork:
    """Loads a network, split and ready for ``multiscale_inpaint``.

    Args:
        name_or_path: the name of a network, or the path of its weights, with ``./`` where a name would be meant.
            ``"mini-lama"`` comes with the package and was trained at 64 px on drawn scenes. ``"mini-conv"`` is the same without
            Fourier layers. ``"big-lama"``, ``"lama-fourier"``, ``"aot-gan"``, ``"mat"``, ``"zits"`` and ``"latent-diffusion"``
            were trained on photos by others; each is fetched when it is first asked for, and is kept in ``cache_folder()``. A
            path is that of a ``.safetensors``, of a ``.ckpt`` or another state that torch has saved, of a TorchScript ``.pt``
            (its tensors are read, its code is never run), or of the folder of a published network, with ``models/best.ckpt`` or
            with weights in several files. The kind and the size of the generator are read from the tensors' names and shapes.
        device: where it computes. None takes the environment variable ``REFINE_DEVICE``. Where that is not set, it takes the
            first that there is of CUDA, MPS and CPU.
        progress: whether to show a bar while a network is fetched.

    Returns:
        A split network in float32, its weights frozen. Of ``"latent-diffusion"`` it is a ``LatentDiffusion``, which is called
        in the same way, and has no front and no rear.

    Raises:
        FileNotFoundError: where the name is not known and there is no such file.
        ConnectionError: where a published network cannot be fetched. The message says how to put it there by hand.
        OSError: where the cache of fetched networks cannot be used, or is full.
        ValueError: where the file cannot be read, is damaged, holds no such generator, or asks to run something.
        RuntimeError: where the device is missing.

    Example:
        >>> load_network("mini-lama", device="cpu")
        SplitNetwork, cut before layer 5 (FourierBlock)
          front: 5 layers, 223,152 parameters
          z:     48 x H/8 x W/8 + 144 x H/8 x W/8, 12 MB for 1024 x 1024 px
          rear:  19 layers, 2,471,043 parameters
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"name_or_path is a {type(name_or_path).__name__}; expected the name of a network or a path")
    device = pick_device(device)
    weights = WEIGHTS.get(name_or_path) if isinstance(name_or_path, str) else None
    path = Path(name_or_path)
    if weights is not None:
        path = weights.path or published_generator(str(name_or_path), progress)
    if not os.path.exists(path):
        known = ", ".join(map(repr, WEIGHTS))
        raise FileNotFoundError(f"name_or_path is {str(name_or_path)!r}; expected {known} or the path of a file of weights")
    network = load_generator(path).to(device)
    try:
        if why_not_split(network):
            check_weights(network)
            model: Any = network.eval().requires_grad_(False)
        else:
            model = split_network(network)
    except ValueError as error:
        raise ValueError(f"{path} holds a network that cannot be used: {error}") from error
    model.name = path.name if weights is None else str(name_or_path)
    return model


def settings_for(name_or_path: object) -> dict[str, float]:
    """The settings of ``multiscale_inpaint`` that suit a network of ``load_network``: ``smallest_scale`` and ``lr``.

    A network that has no name there gets the paper's.
    """
    weights = WEIGHTS.get(str(name_or_path), Weights())
    return {"smallest_scale": weights.smallest_scale, "lr": weights.lr}
