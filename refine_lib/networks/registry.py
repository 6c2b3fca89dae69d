"""The kinds of networks that are known; and a network on disk, found among a file's tensors and built by their shapes."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from refine_lib.networks.checkpoints import read_state
from refine_lib.networks.pickles import FLOATS
from refine_lib.whole import whole_file


@dataclass(frozen=True)
class Source:
    """An address on the web that has a file of weights.

    Attributes:
        url: of the file.
        sha256: of the file's content.
        md5: of the file's content, where its publisher tells no more. The sha256 of the first such file is kept.
        member: the file within it that holds the weights, where it is a ``.zip``.
        prefix: what goes before the names of its tensors, where a network comes in several files.
    """

    url: str
    sha256: str = ""
    member: str = ""
    prefix: str = ""
    md5: str = ""

    @property
    def name(self) -> str:
        """The name of the file on disk."""
        return self.prefix + Path(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Weights:
    """Trained weights that go by a name, and the settings of ``multiscale_inpaint`` that suit them.

    Attributes:
        files: where the weights are fetched from. A network in several files has an entry for each of them, and each entry
            has the sources of that file in the order in which they are tried.
        path: of the file, where it comes with the package.
        smallest_scale: in pixels. The default is the paper's.
        lr: the learning rate of z. The default is the paper's.
    """

    files: tuple[tuple[Source, ...], ...] = ()
    path: Path | None = None
    smallest_scale: int = 512
    lr: float = 0.002


@dataclass(frozen=True)
class Architecture:
    """A kind of network, as its file in this folder registers it.

    A class that says in ``not_split`` why it cannot be split is called as a split network is, and gives plain pictures.

    What ``split_network`` asks for stands in the class, each where it is not the default: ``hole_value``, ``value_range``,
    ``multiple``, and ``first_block``, the cut. A whole number for ``first_block`` is the index of a layer in ``layers``, which
    must then be the whole network as one ``nn.Sequential``. Names of layers cut a network that is no list of layers.

    Attributes:
        name: in messages.
        network: the class. It is built without memory of its own, so that it may hold only what is in its state.
        stem: the end of the name of a tensor that every such network has once, and no other kind has. What stands before it
            in a file is the prefix of all the network's tensors.
        arguments: gives the arguments of the class for a state. It raises ``ValueError`` where the tensors that tell are
            missing.
        weights: trained weights by their names in ``load_network``.
        idle: ends of the names of tensors that a file may have, and the network does not use.
        names: gives the network's tensors by its own names, of all that a file has. None takes off what stands before the stem.
    """

    name: str
    network: Callable[..., nn.Module]
    stem: str
    arguments: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]] = lambda state: {}
    weights: Mapping[str, Weights] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    names: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] | None = None


ARCHITECTURES: list[Architecture] = []
WEIGHTS: dict[str, Weights] = {}  # of all architectures, by name


def why_not_split(network: object) -> str:
    """Why a network, or the one of this name, cannot be split and refined; empty where it may be."""
    named = (kind.network for kind in ARCHITECTURES if isinstance(network, str) and network in kind.weights)
    return getattr(next(named, network), "not_split", "")


def register(architecture: Architecture) -> None:
    """Makes a kind of network known to ``load_network``, with its weights."""
    ARCHITECTURES.append(architecture)
    WEIGHTS.update(architecture.weights)


def save_generator(generator: nn.Module, path: str | Path, half: bool = False, **notes: object) -> None:
    """Writes a generator's state as ``.safetensors``.

    Args:
        generator: any network.
        path: of the file. An interruption leaves the file that was there.
        half: whether the weights of convolutions are rounded to half precision, for half the size. They are loaded as
            float32. What batch norms have counted is kept as it is: it may be of any size.
        notes: go into the file's header as text.

    Raises:
        OSError: where the file cannot be written. What is known of that before the work is told before it.
    """
    path = Path(path)
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"path is {path}; expected a file in a folder that is there")
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(f"path is {path}, which is there and is no file; expected the path of a file")
    state = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in generator.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in state.items()}
    try:
        with whole_file(path) as part:
            save_file(state, part, metadata={key: str(value) for key, value in notes.items()})
    except (OSError, SafetensorError) as error:
        raise OSError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def load_generator(path: str | Path) -> nn.Module:
    """Reads a generator from a file of weights or from a folder that holds one.

    Args:
        path: as in ``read_state``.

    Returns:
        A network of a known kind, as ``LamaGenerator``, in float32 on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it cannot be read, or its tensors are not those of one generator.
    """
    state = read_state(path)
    try:
        return generator_of(state)
    except ValueError as error:
        *kinds, last = (architecture.name for architecture in ARCHITECTURES)
        kinds = f"{', '.join(kinds)} or {last}"
        raise ValueError(f"{path} does not hold a {kinds} generator: {error}") from error


def generator_of(state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The generator whose tensors are among others, in float32.

    Args:
        state: tensors by name. What stands before the names of the generator's own, and what lies beside them, as a
            discriminator, does not matter.

    Raises:
        ValueError: where there is no whole generator of a known kind, or more than one.
    """
    found = [(kind, name.removesuffix(kind.stem)) for kind in ARCHITECTURES for name in state if name.endswith(kind.stem)]
    if not found:
        raise ValueError(f"it has no {' and no '.join(kind.stem for kind in ARCHITECTURES)}")
    if len(found) > 1:
        raise ValueError(f"it holds {len(found)}, named {', '.join(repr(prefix) for _, prefix in found[:3])}")
    kind, prefix = found[0]
    state = kind.names(state) if kind.names else {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    arguments = kind.arguments(state)
    with torch.device("meta"):  # no memory, and no random numbers
        network = kind.network(**arguments)
    wanted = network.state_dict()
    parts = {name.partition(".")[0] for name in wanted}
    state = {name: t for name, t in state.items() if name.partition(".")[0] in parts and not name.endswith(kind.idle)}
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]  # which TorchScript leaves out
    state = {name: torch.tensor(0) for name in counters} | state
    wrong = [f"{name} {_kind(state[name])}" for name in wanted if name in state and _kind(state[name]) != _kind(wanted[name])]
    for reason, names in (("lacks", wanted.keys() - state.keys()), ("also has", state.keys() - wanted.keys()), ("has", wrong)):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ValueError(f"as a {type(network).__name__} of {arguments} it {reason} {some}")
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    network.load_state_dict(state, assign=True)
    return network


def _kind(tensor):
    """A tensor's shape, and of what numbers it is where it cannot become float32."""
    wholes = "complex numbers" if tensor.is_complex() else "whole numbers"
    numbers = str(tensor.dtype) if tensor.is_floating_point() else wholes
    return f"{tuple(tensor.shape)}{'' if tensor.dtype in FLOATS.values() else f' of {numbers}'}"


def width(state: Mapping[str, torch.Tensor], name: str) -> int:
    """The number of channels that the convolution of this name gives.

    Raises:
        ValueError: where there is no such convolution.
    """
    if name not in state:
        raise ValueError(f"it has no {name}")
    if state[name].ndim != 4 or not state[name].numel():
        raise ValueError(f"its {name} is {_kind(state[name])}, no convolution's weights")
    return len(state[name])


def count(pattern: str, names: Collection[str], most: int = 200) -> int:
    """How many different numbers stand in the group of a pattern, among the names that match it.

    Raises:
        ValueError: where they are more than ``most``. To build a network of very many layers takes very long.
    """
    number = len({match[1] for name in names if (match := re.fullmatch(pattern, name))})
    if number > most:
        raise ValueError(f"it has {number:,} layers named {pattern}; expected at most {most}")
    return number
