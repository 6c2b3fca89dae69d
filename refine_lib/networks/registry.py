"""A generator on disk: found among the tensors of a file, its architecture read from their shapes."""

import os
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from refine_lib.networks.aotgan import AOTGenerator
from refine_lib.networks.checkpoints import read_state
from refine_lib.networks.lama import LamaGenerator

# A tensor that every generator of a kind has, and nothing else: what stands before its name is the prefix in that file.
STEMS = {LamaGenerator: "model.1.ffc.convl2l.weight", AOTGenerator: "middle.0.block00.1.weight"}
NOT_FOUND = "does not hold a LaMa or AOT-GAN generator"


def save_generator(generator, path, half=False, **notes):
    """Writes a generator's state as ``.safetensors``.

    Args:
        half: whether the weights of convolutions are rounded to half precision, for half the size; they are loaded as
            float32. What batch norms have counted is kept as it is: it may be of any size.
        notes: go into the file's header as text.
    """
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in generator.state_dict().items()
    }
    if half:
        state = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in state.items()}
    part = Path(path).with_suffix(".part")  # and then in one go: an interruption leaves the file that was there
    try:
        save_file(state, part, metadata={key: str(value) for key, value in notes.items()})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_generator(path):
    """Reads a LaMa or AOT-GAN generator from a file of weights or from a folder that holds one.

    Args:
        path: as in ``read_state``. The generator is found by the names of its tensors: what stands before them, and what lies
            beside them, as a discriminator, does not matter.

    Returns:
        A ``LamaGenerator`` or an ``AOTGenerator`` in float32 on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it cannot be read, or its tensors are not those of one generator.
    """
    kind, state = generator_state(read_state(path), path)
    shape = (lama_shape if kind is LamaGenerator else aot_shape)(state, path)
    try:
        with torch.device("meta"):  # no memory, and no random numbers
            network = kind(**shape)
    except ValueError as error:
        raise ValueError(f"{path} {NOT_FOUND}: {error}") from error
    wanted = network.state_dict()
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]  # which TorchScript leaves out
    state = {name: torch.tensor(0) for name in counters} | state
    wrong = [f"{name} {_kind(state[name])}" for name in wanted if name in state and _kind(state[name]) != _kind(wanted[name])]
    for reason, names in (("lacks", wanted.keys() - state.keys()), ("also has", state.keys() - wanted.keys()), ("has", wrong)):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ValueError(f"{path} {NOT_FOUND}: as a {kind.__name__} of {shape} it {reason} {some}")
    network.load_state_dict(state, assign=True)
    return network


def generator_state(state, source="the state"):
    """The class of the generator among other tensors, and its state: in float32, by the names that the class gives them.

    Raises:
        ValueError: where there is none, or more than one.
    """
    found = [(kind, name.removesuffix(stem)) for kind, stem in STEMS.items() for name in state if name.endswith(stem)]
    if len(found) != 1:
        prefixes = ", ".join(repr(prefix) for _, prefix in found)
        told = f"it holds {len(found)}, named {prefixes}" if found else f"it has no {' and no '.join(STEMS.values())}"
        raise ValueError(f"{source} {NOT_FOUND}: {told}")
    kind, prefix = found[0]
    parts = tuple(prefix + part for part in ("model.", "encoder.", "middle.", "decoder."))
    tensors = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(parts)}
    return kind, {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def lama_shape(state, source="the state"):
    """``ngf``, ``n_blocks`` and ``ratio`` of the LaMa generator whose state this is.

    Raises:
        ValueError: where the tensors that tell are missing.
    """
    ngf, n_local = (_width(state, name, source) for name in (STEMS[LamaGenerator], "model.4.ffc.convl2l.weight"))
    n_blocks = _count(r"model\.(\d+)\.conv1\.ffc\.convl2l\.weight", state)
    if not n_blocks:
        raise ValueError(f"{source} {NOT_FOUND}: it has no residual block")
    return {"ngf": ngf, "n_blocks": n_blocks, "ratio": round(1 - n_local / (8 * ngf), 9)}


def aot_shape(state, source="the state"):
    """``channels``, ``n_blocks`` and ``rates`` of the AOT-GAN generator whose state this is.

    Its dilation rates leave no trace in the weights: they are taken to double from 1, as the published ones do.

    Raises:
        ValueError: where the tensors that tell are missing.
    """
    channels = _width(state, "encoder.5.weight", source)
    n_rates = _count(r"middle\.0\.block(\d+)\.1\.weight", state)
    n_blocks = _count(r"middle\.(\d+)\.fuse\.1\.weight", state)
    return {"channels": channels, "n_blocks": n_blocks, "rates": tuple(2**i for i in range(n_rates))}


def _kind(tensor):
    """A tensor's shape, and whether it holds whole numbers."""
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of whole numbers'}"


def _width(state, name, source):
    """The number of channels that a convolution gives."""
    if name not in state or state[name].ndim != 4 or not state[name].numel():
        found = f"its {name} is {_kind(state[name])}, no convolution's weights" if name in state else f"it has no {name}"
        raise ValueError(f"{source} {NOT_FOUND}: {found}")
    return len(state[name])


def _count(pattern, names):
    """How many numbers stand in a place in names."""
    return len({match[1] for name in names if (match := re.fullmatch(pattern, name))})
