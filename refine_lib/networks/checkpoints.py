"""Reading weights that others published, whatever they lie in, without running anything that a file holds.

``torch.load(weights_only=True)`` reads what is older than torch 1.6. For archives it would not do: it refuses those of
TorchScript, it takes no stand-ins that are filled piece by piece, and what else a file may name is set for the whole process.
"""

import io
import math
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

ENDINGS = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Every tensor in a file, by its name.

    Args:
        path: of a file, or of a folder that holds one, alone or as ``models/best.ckpt``. The file is a ``.safetensors``, or
            what ``torch.save`` wrote, as a state or a Lightning checkpoint, or a TorchScript archive. Of the last the tensors
            are read, and the code is not.

    Returns:
        The tensors on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        Refused: where the file asks for something that is no part of weights. Nothing of it was run.
        ValueError: where the file is damaged, or holds something else than tensors.
    """
    path = find_weights(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _flatten(_ArchiveReader(archive, path).load())
        with warnings.catch_warnings(action="ignore"):  # on the pickle's age
            return _flatten(torch.load(path, map_location="cpu", weights_only=True))  # from before torch 1.6
    except Refused:
        raise
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole .safetensors file: {error}") from error
    except pickle.UnpicklingError as error:  # torch's own words advise to run what the file holds
        raise Refused(path, "more than tensors and plain values") from error
    except Exception as error:  # what a damaged pickle raises is anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0]
        raise ValueError(f"{path} is not a whole file of weights ({reason})") from error


def find_weights(path: str | Path) -> Path:
    """The file with the weights: the path itself, or what a folder holds."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_file():
        return path
    best = path / "models" / "best.ckpt"
    found = [best] if best.is_file() else sorted(p for p in path.rglob("*") if p.suffix in ENDINGS)
    if len(found) != 1:
        names = ", ".join(str(p.relative_to(path)) for p in found) or "none"
        raise ValueError(f"the folder {path} has {names}; expected models/best.ckpt or one file of {', '.join(ENDINGS)}")
    return found[0]


class Refused(ValueError):
    """A file asks for something that is no part of a network's weights. Nothing of the file was run."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{path} asks for {what}, which no weights need: it was refused, and nothing in it was run")


class Stranger:
    """What stands for an object of a package that need not be installed: it takes everything, and does and keeps nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def _take(self, *_, **__):
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = _take


class _Module:
    """A module of a TorchScript archive: its attributes, without its code."""


def _tensor(storage, offset, size, stride, *_):
    if math.prod(size) > storage.numel():
        raise ValueError(f"a tensor of shape {tuple(size)} has a storage of {storage.numel()} numbers")
    return torch.as_strided(storage, size, stride, offset)


def _first(value, *_):
    return value


# What a pickle may name. All else is refused, but for the packages and names below, whose objects lie beside the weights in a
# published checkpoint: they become strangers.
STRANGERS = ("_codecs.encode", "lightning", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch.device", "typing")
DTYPES = {"BFloat16": torch.bfloat16, "Bool": torch.bool, "Byte": torch.uint8, "Char": torch.int8, "Double": torch.float64}
DTYPES |= {"Float": torch.float32, "Half": torch.float16, "Int": torch.int32, "Long": torch.int64, "Short": torch.int16}
VALUES = {f"builtins.{kind.__name__}": kind for kind in (bool, complex, dict, float, int, list, set, str, tuple)}
VALUES |= {"builtins.long": int, "builtins.unicode": str}  # as protocol 2 says them
VALUES |= {"collections.OrderedDict": OrderedDict, "torch.Size": tuple}
VALUES |= {f"torch.{name}Storage": dtype for name, dtype in DTYPES.items()} | {str(dtype): dtype for dtype in DTYPES.values()}
FUNCTIONS = {"collections.defaultdict": lambda *_: {}, "torch._utils._rebuild_parameter": _first}
FUNCTIONS |= {"torch._utils._rebuild_tensor": _tensor, "torch._utils._rebuild_tensor_v2": _tensor}


class _ArchiveReader(pickle.Unpickler):
    """Reads the pickle of an archive of torch. ``find_class`` is the one gate to anything that could run."""

    def __init__(self, archive, path):
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is an archive, but not one of torch")
        self.archive, self.folder, self.path, self.storages = archive, pickles[0].removesuffix("data.pkl"), path, {}
        content = self._content("data.pkl")
        for opcode, place, _ in pickletools.genops(content):
            if opcode.name.endswith("PUT") and int(place or 0) > len(content):
                raise ValueError("its pickle asks for more memory than it can need")
        super().__init__(io.BytesIO(content))

    def find_class(self, module, name):
        """A value that does not change, or what is made for this file alone: a pickle may change what it names."""
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 says it
        package, full_name = module.partition(".")[0], f"{module}.{name}"
        if full_name in VALUES:
            return VALUES[full_name]
        if full_name in FUNCTIONS or module == "torch.jit._pickle":  # which marks a list of numbers or of tensors as such
            function = FUNCTIONS.get(full_name, _first)
            return lambda *arguments: function(*arguments)
        if package != "__torch__" and package not in STRANGERS and full_name not in STRANGERS:
            raise Refused(self.path, full_name)
        kind = _Module if package == "__torch__" else Stranger
        return type(kind.__name__, (kind,), {})

    def persistent_load(self, key):
        """The numbers of a storage, which several tensors may share."""
        kind, dtype, name, *_ = key
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise Refused(self.path, f"a {kind}")
        if name not in self.storages:
            content = bytearray(self._content(f"data/{name}"))
            self.storages[name] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self.storages[name]

    def _content(self, name):
        entry = self.archive.getinfo(f"{self.folder}{name}")
        if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing, and little may become very much
            raise ValueError(f"its {name} is compressed")
        return self.archive.read(entry)  # which holds its checksum against it


def _flatten(found):
    """The tensors in dictionaries and modules, by the names on the way to them; a ``state_dict`` on the way is not named."""
    state, left, met = {}, [("", found)], set()
    while left:
        prefix, things = left.pop()
        things = vars(things) if isinstance(things, _Module) else things
        if not isinstance(things, dict) or id(things) in met:  # which may hold itself
            continue
        met.add(id(things))
        for name, value in things.items():
            if isinstance(name, str) and isinstance(value, torch.Tensor):
                state[f"{prefix}{name}"] = value
            elif isinstance(name, str):
                left.append((prefix if name == "state_dict" else f"{prefix}{name}.", value))
    return state
