"""The networks that come with the package, and ``load_network``, which finds one by its name or by a file's path."""

from pathlib import Path

from refine_lib.device import pick_device
from refine_lib.networks.published import PUBLISHED, published_generator
from refine_lib.networks.registry import load_generator
from refine_lib.networks.split import split_network

EMBEDDED = {name: Path(__file__).with_name(f"{name.replace('-', '_')}.safetensors") for name in ("mini-lama", "mini-conv")}


def load_network(name_or_path="mini-lama", device=None, progress=True):
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
    path = EMBEDDED.get(str(name_or_path), Path(name_or_path))
    if isinstance(name_or_path, str) and name_or_path in PUBLISHED:
        path = published_generator(name_or_path, progress)
    if not path.exists():
        known = ", ".join(map(repr, (*EMBEDDED, *PUBLISHED)))
        raise FileNotFoundError(f"name_or_path is {str(name_or_path)!r}; expected {known} or the path of a file of weights")
    return split_network(load_generator(path).to(device))


def settings_for(name_or_path):
    """The settings of ``multiscale_inpaint`` that suit a network of ``load_network``: ``smallest_scale`` and ``lr``.

    Those of the embedded networks were chosen on scenes of their own kind; all others get the paper's.
    """
    return {"smallest_scale": 64, "lr": 0.005} if str(name_or_path) in EMBEDDED else {"smallest_scale": 512, "lr": 0.002}
