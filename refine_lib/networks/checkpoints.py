"""Reading weights that others published, whatever they lie in, without running anything that a file holds.

``torch.load(weights_only=True)`` would not do: it refuses archives of TorchScript, what else a file may name is set for the
whole process, and a small file can make it take much time or memory.
"""

import io
import math
import os
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from refine_lib.networks.pickles import LONGEST_NAME, MOST_BYTES, Module, PlainReader, Refused, Storage, Tensor

ENDINGS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
PART = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.\w+)")  # of weights in several files, as Hugging Face names them
OLD_MAGIC = 0x1950A86A20F9469CFC6C  # torch's, before 1.6
MOST_FOLDERS = 1000
MOST_DIMENSIONS = 16
MOST_SHARED = 2  # numbers for a byte of the file. Tensors may share numbers, but each may later take a memory of its own


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Every tensor in a file, by its name.

    What a file asks for is held against its size before it is done, so that a small file takes little time and memory.

    Args:
        path: of a file, or of a folder that holds one, alone or as ``models/best.ckpt``. The file is a ``.safetensors``, or
            what ``torch.save`` wrote, as a state or a Lightning checkpoint, or a TorchScript archive. Of the last the tensors
            are read, and the code is not. Of weights in several files, as ``model-00001-of-00002.safetensors``, the path is
            that of the folder or of one of them.

    Returns:
        The tensors on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        Refused: where the file asks for something that is no part of weights. Nothing of it was run.
        ValueError: where the file cannot be read, is damaged, or holds something else than tensors.
    """
    return {name: tensor for part in find_weights(path) for name, tensor in _read(part).items()}


def _read(path):
    try:
        if path.suffix == ".safetensors":
            with open(path, "rb") as file:
                _check_size(int.from_bytes(file.read(8), "little"))
            return _flatten(load_file(path))
        return (_read_archive if zipfile.is_zipfile(path) else _read_old)(path)
    except Refused:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file: {str(error)[:200]}") from error
    except Exception as error:  # what a damaged pickle raises is anything
        reason = f"{type(error).__name__}: {str(error)[:200]}".splitlines()[0]
        raise ValueError(f"{path} is not a whole file of weights ({reason})") from error


def find_weights(path: str | Path) -> list[Path]:
    """The files with the weights: the path itself, with the other parts where it is one of several; or what a folder holds.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where a part is missing, or a folder holds no weights or several.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    path = path.parent if path.name.endswith(".index.json") else path  # which says what lies in which part
    best = path / "models" / "best.ckpt"
    if os.path.isfile(path) or os.path.isfile(best):
        found = [path if os.path.isfile(path) else best]
    elif not os.path.isdir(path):
        raise ValueError(f"{path} is neither a file nor a folder")  # reading a pipe may wait for ever
    else:
        folders = list(islice(os.walk(path), MOST_FOLDERS + 1))
        if len(folders) > MOST_FOLDERS:
            raise ValueError(f"the folder {path} has more than {MOST_FOLDERS:,} folders in it; expected that of a network")
        files = (Path(folder, name) for folder, _, names in folders for name in names)
        found = sorted(file for file in files if file.suffix in ENDINGS and os.path.isfile(file))
    parts = _parts(found[0]) if found else []
    if not parts or len(found) > 1 and found != parts:
        names = ", ".join(str(file.relative_to(path)) for file in found[:3]) or "none"
        names += f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(f"the folder {path} has {names}; expected models/best.ckpt or one file of {', '.join(ENDINGS)}")
    return parts


def _parts(path):
    part = PART.fullmatch(path.name)
    if not part:
        return [path]
    stem, number, ending = part.groups()
    parts = [path.with_name(f"{stem}-{i:05}-of-{number}{ending}") for i in range(1, int(number) + 1)]
    missing = next((part.name for part in parts if not os.path.isfile(part)), None)
    if missing:
        raise ValueError(f"{path} is one of {len(parts)} files of weights, of which {missing} is missing")
    return parts or [path]


def _check_size(n_bytes):
    if n_bytes > MOST_BYTES:
        raise ValueError(f"what it says about its tensors takes {n_bytes:,} bytes; expected at most {MOST_BYTES:,}")


def _read_archive(path):
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is an archive, but not one of torch")
        folder, left = pickles[0].removesuffix("data.pkl"), path.stat().st_size

        def content(name):
            nonlocal left
            entry = archive.getinfo(folder + name)
            if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing, and little may become very much
                raise ValueError(f"its {name[:100]} is compressed")
            left -= entry.file_size
            if left < 0:  # entries may overlap
                raise ValueError("it has more in it than its own size")
            return archive.read(entry)  # which holds its checksum against it

        _check_size(archive.getinfo(pickles[0]).file_size)
        order = content("byteorder").decode() if f"{folder}byteorder" in archive.namelist() else sys.byteorder
        if order != sys.byteorder:
            raise ValueError("its numbers have another order of bytes than those of this machine")
        found = PlainReader(path).read(io.BytesIO(content("data.pkl")))
        return _flatten(found, _Numbers(path, lambda storage: content(f"data/{storage.name}")))


def _read_old(path):
    """The tensors of a file from before torch 1.6: five pickles, and then the numbers of each storage after their count."""
    reader, size = PlainReader(path), path.stat().st_size
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(MOST_BYTES))
        magic = reader.read(head)
        if not isinstance(magic, int) or magic != OLD_MAGIC:
            return _flatten(magic)  # a plain pickle
        _, _, found, names = (reader.read(head) for _ in range(4))  # the first two are the versions of torch and of Python
        place, places = head.tell(), {}
        for name in names:
            if not isinstance(name, str):  # what is nested takes very long to hash, and to print
                raise ValueError("a storage's name is no text")
            file.seek(place)
            n_bytes = reader.storages[name].dtype.itemsize * int.from_bytes(file.read(8), "little")
            places[name] = place + 8, n_bytes
            place += 8 + n_bytes
            if place > size:
                raise ValueError("it ends early")

        def content(storage):
            file.seek(places[storage.name][0])
            return file.read(places[storage.name][1])

        return _flatten(found, _Numbers(path, content))


class _Numbers:
    """Makes tensors of what a pickle says about them, within what a file of this size can hold."""

    def __init__(self, path: Path, content: Callable[[Storage], bytes]):
        self.content, self.storages, self.left = content, {}, MOST_SHARED * path.stat().st_size

    def __call__(self, tensor: Tensor) -> torch.Tensor:
        storage, size, stride = tensor.storage, tensor.size, tensor.stride
        if not isinstance(storage, Storage) or len(size) > MOST_DIMENSIONS:
            raise ValueError("it has a tensor without numbers, or of too many dimensions")
        start = tensor.offset + storage.start
        if not all(isinstance(n, int) and 0 <= n < 2**63 for n in (*size, *stride, start)):
            raise ValueError("the shape of a tensor is not of whole numbers")
        if storage.name not in self.storages:
            self.storages[storage.name] = bytearray(self.content(storage))
        buffer = self.storages[storage.name]
        n_held = len(buffer) // tensor.dtype.itemsize
        n_numbers = math.prod(size)
        last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if n_numbers and last >= n_held:
            raise ValueError(f"a tensor of shape {tuple(size)} has a storage of {n_held} numbers")
        self.left -= n_numbers
        if self.left < 0:
            raise ValueError("its tensors have more numbers than a file of its size can hold")
        if not n_numbers:
            return torch.empty(size, dtype=tensor.dtype)
        return torch.as_strided(torch.frombuffer(buffer, dtype=tensor.dtype, count=n_held), size, stride, start)


def _flatten(found: object, tensor_of: Callable[[Tensor], torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The tensors in dictionaries and modules, by the names on the way to them; a ``state_dict`` on the way is not named."""
    state, left, met = {}, [("", found)], set()
    while left:
        prefix, things = left.pop()
        things = things.attributes if isinstance(things, Module) else things
        if not isinstance(things, Mapping) or id(things) in met:  # which may hold itself
            continue
        met.add(id(things))
        for name, value in things.items():
            if len(prefix) + len(name) > LONGEST_NAME or not name.isprintable():
                continue  # no network needs it, and nesting could make it grow without end
            if isinstance(value, dict | Module):
                left.append((prefix if name == "state_dict" else f"{prefix}{name}.", value))
            elif isinstance(value, Tensor) and tensor_of:
                state[prefix + name] = tensor_of(value)
            elif isinstance(value, torch.Tensor):
                state[prefix + name] = value
    return state
