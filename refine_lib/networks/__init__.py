"""The networks that come with the package, and ``load_network``, which finds one by its name or by a file's path."""

from pathlib import Path

from refine_lib.device import pick_device
from refine_lib.networks.weights import load_generator
from refine_lib.split import split_network

EMBEDDED = {name: Path(__file__).with_name(f"{name.replace('-', '_')}.safetensors") for name in ("mini-lama", "mini-conv")}


def load_network(name_or_path="mini-lama", device=None):
    """Loads a network, split and ready for ``multiscale_inpaint``.

    Args:
        name_or_path: ``"mini-lama"``, which comes with the package (trained at 64 px on drawn scenes); ``"mini-conv"``, the
            same without Fourier layers; or the path of a ``.safetensors`` with a LaMa generator, whose size is read from
            the tensors' shapes.
        device: where it computes. None takes the environment variable ``REFINE_DEVICE``, else CUDA, MPS or CPU, the first
            that there is.

    Returns:
        A ``SplitNetwork`` in float32, its weights frozen.

    Raises:
        FileNotFoundError: where the name is not known and there is no such file.
        ValueError: where the file does not hold a LaMa generator.
        RuntimeError: where the device is missing.
    """
    device = pick_device(device)
    path = EMBEDDED.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        known = ", ".join(map(repr, EMBEDDED))
        raise FileNotFoundError(f"name_or_path is {str(name_or_path)!r}; expected {known} or the path of a .safetensors file")
    return split_network(load_generator(path).to(device))
