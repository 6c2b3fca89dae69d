"""The networks that come with the package, and ``load_network``, which finds one by its name or by a file's path."""

from pathlib import Path

import torch

from refine_lib.device import pick_device
from refine_lib.networks.published import published_generator
from refine_lib.networks.registry import WEIGHTS, Weights, load_generator
from refine_lib.networks.split import SplitNetwork, split_network

# Each registers its kind of network. A new kind is named here.
from refine_lib.networks import lama, aotgan  # noqa: F401  # isort: skip

EMBEDDED = {name: weights.path for name, weights in WEIGHTS.items() if weights.path}


def load_network(
    name_or_path: str | Path = "mini-lama", device: torch.device | str | None = None, progress: bool = True
) -> SplitNetwork:
    """Loads a network, split and ready for ``multiscale_inpaint``.

    Args:
        name_or_path: ``"mini-lama"``, which comes with the package (trained at 64 px on drawn scenes); ``"mini-conv"``, the
            same without Fourier layers; ``"big-lama"``, ``"lama-fourier"`` or ``"aot-gan"``, trained on photos by others, which
            are fetched at first and kept in ``cache_folder()``; or a path, with ``./`` where a name would be meant: a
            ``.safetensors``, a ``.ckpt`` or state that torch has saved, a TorchScript ``.pt`` (its tensors are read, its code
            never run), or the folder of a published network, with ``models/best.ckpt``. What it holds, a LaMa or an AOT-GAN
            generator of any size, is read from the tensors' names and shapes.
        device: where it computes. None takes the environment variable ``REFINE_DEVICE``, else CUDA, MPS or CPU, the first
            that there is.
        progress: whether to show a bar while a network is fetched.

    Returns:
        A ``SplitNetwork`` in float32, its weights frozen.

    Raises:
        FileNotFoundError: where the name is not known and there is no such file.
        ConnectionError: where a published network cannot be fetched; the message says how to put it there by hand.
        ValueError: where the file is damaged, holds no such generator, or would run something.
        RuntimeError: where the device is missing.
    """
    device = pick_device(device)
    weights = WEIGHTS.get(name_or_path) if isinstance(name_or_path, str) else None
    path = Path(name_or_path)
    if weights is not None:
        path = weights.path or published_generator(str(name_or_path), progress)
    if not path.exists():
        known = ", ".join(map(repr, WEIGHTS))
        raise FileNotFoundError(f"name_or_path is {str(name_or_path)!r}; expected {known} or the path of a file of weights")
    return split_network(load_generator(path).to(device))


def settings_for(name_or_path: object) -> dict[str, float]:
    """The settings of ``multiscale_inpaint`` that suit a network of ``load_network``: ``smallest_scale`` and ``lr``.

    A network that has no name there gets the paper's.
    """
    weights = WEIGHTS.get(str(name_or_path), Weights())
    return {"smallest_scale": weights.smallest_scale, "lr": weights.lr}
