"""Weights on disk: one ``.safetensors`` a generator, its architecture read from the shapes of its own tensors."""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from refine_lib.networks.lama import LamaGenerator


def save_generator(generator, path, half=False, **notes):
    """Writes a generator's state as ``.safetensors``.

    Args:
        half: whether the weights of convolutions are rounded to half precision, for half the size; they are loaded as
            float32. What batch norms have counted is kept as it is: it may be of any size.
        notes: go into the file's header as text.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in state.items()}
    part = Path(path).with_suffix(".part")  # and then in one go: an interruption leaves the file that was there
    save_file(state, part, metadata={key: str(value) for key, value in notes.items()})
    os.replace(part, path)


def load_generator(path):
    """Reads a LaMa generator from a ``.safetensors``.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no safetensors file, or its tensors are not those of a LaMa generator.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file: {error}") from error
    network = LamaGenerator(**lama_shape(state, path))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold a LaMa generator: {error}") from error
    return network


def lama_shape(state, source="the state"):
    """``ngf``, ``n_blocks`` and ``ratio`` of the LaMa generator whose state this is.

    Raises:
        ValueError: where the tensors that tell are missing.
    """
    stem, last_halving = "model.1.ffc.convl2l.weight", "model.4.ffc.convl2l.weight"
    blocks = {int(n) for n in re.findall(r"^model\.(\d+)\.conv1\.ffc\.convl2l\.weight$", "\n".join(state), re.MULTILINE)}
    if stem not in state or last_halving not in state or not blocks:
        raise ValueError(f"{source} does not hold a LaMa generator: it has no {stem}, {last_halving} or residual block")
    ngf, n_local = len(state[stem]), len(state[last_halving])
    return {"ngf": ngf, "n_blocks": len(blocks), "ratio": round(1 - n_local / (8 * ngf), 9)}
