"""Reading a pickle as plain values, without running any of it.

A pickle is a list of instructions. Here each of them makes one value at most. What a pickle names is neither imported nor
called; what it nests is neither hashed, compared nor printed. So work and memory are bounded by the pickle's own size.
"""

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

MOST_BYTES = 1 << 23  # of what a file says about its tensors; their numbers stand elsewhere. A large network has 100 kB of it
MOST_STEPS = 500_000  # about 20,000 tensors
MOST_ARGUMENTS = 100
LONGEST_NAME = 500  # in characters. To join or compare longer ones again and again takes long

# What a pickle may name. All else is refused, but for the packages and names of STRANGERS, whose objects lie beside the weights
# in a published checkpoint.
STRANGERS = ("_codecs.encode", "lightning", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch.device", "typing")
STRANGERS += ("argparse.Namespace",)
STRANGERS += tuple(
    f"builtins.{name}" for name in "bool bytearray bytes complex float frozenset int list long set str tuple unicode".split()
)
DICTIONARIES = ("builtins.dict", "collections.OrderedDict", "collections.defaultdict")
TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
FLOATS = {"torch.BFloat16Storage": torch.bfloat16, "torch.HalfStorage": torch.float16}
FLOATS |= {"torch.FloatStorage": torch.float32, "torch.DoubleStorage": torch.float64}
FLOATS |= {f"torch.{name}": getattr(torch, name) for name in dir(torch) if name.startswith("float8_")}
DTYPES = {"Bool": torch.bool, "Byte": torch.uint8, "Char": torch.int8, "Int": torch.int32, "Long": torch.int64}
DTYPES |= {"Short": torch.int16, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128}
DTYPES = (
    FLOATS | {f"torch.{name}Storage": dtype for name, dtype in DTYPES.items()} | {"torch.storage.UntypedStorage": torch.uint8}
)
DTYPES |= {str(dtype): dtype for dtype in [*DTYPES.values(), torch.uint16, torch.uint32, torch.uint64]}
KNOWN = {*DICTIONARIES, *TENSORS, *PARAMETERS, *DTYPES, *STRANGERS, "torch.Size"}
PACKAGES = {"__torch__", *STRANGERS}
OTHER_TENSORS = {"meta_tensor_no_storage": "a meta tensor, which has no numbers", "nested_tensor": "a nested tensor"}
OTHER_TENSORS |= {"qtensor": "a quantized tensor", "sparse_tensor": "a sparse tensor", "wrapper_subclass": "a tensor subclass"}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "EMPTY_SET": None}
LITERALS = {  # the instructions that hold a number or a text
    code.name
    for code in pickletools.opcodes
    if code.arg and code.stack_after and code.stack_after[0] is not pickletools.anyobject and not code.stack_before
}


class Refused(ValueError):
    """A file asks for something that is no part of a network's weights. Nothing of the file was run."""

    def __init__(self, path: Path, what: str):
        what = what if len(what) < 100 and what.isprintable() else repr(what[:60]) + "..."
        super().__init__(f"{path} asks for {what}, which no weights need: it was refused, and nothing in it was run")


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of a file that tensors share: their type, their name in the file, and how many of them are passed over."""

    dtype: torch.dtype
    name: str
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """What a pickle says of a tensor."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(eq=False)
class Module:
    """A module of a TorchScript archive: its attributes, without its code."""

    attributes: object = None


@dataclass(frozen=True, eq=False)
class Name:
    """What stands for a class or a function."""

    text: str


@dataclass
class PlainReader:
    """Reads the pickles of a file.

    Attributes:
        path: of the file, for messages.
        storages: those that the pickles have named.
    """

    path: Path
    storages: dict[str, Storage] = field(default_factory=dict)

    def read(self, file: IO[bytes]) -> Any:
        """The value of the pickle that begins here: plain values, ``Tensor`` and ``Module``. All else is None in it.

        Raises:
            Refused: where it asks for something that is no part of weights.
            Exception: of any kind, where it is damaged.
        """
        stack, marks, memo = [], [], {}
        for step, (opcode, value, _) in enumerate(pickletools.genops(file)):
            if step == MOST_STEPS:
                raise ValueError(f"its pickle has more than {MOST_STEPS:,} instructions")
            if pickletools.markobject in opcode.stack_before:
                start = marks.pop()
                items = stack[start:]
                del stack[start:]
            else:
                items = []
            name = opcode.name
            if name in LITERALS:
                stack.append(None if isinstance(value, str) and len(value) > LONGEST_NAME else value)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name.endswith("GET"):
                stack.append(memo[value])
            elif name.endswith("PUT"):
                memo[value] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name == "MARK":
                marks.append(len(stack))
            elif name == "GLOBAL":
                stack.append(self._name(*str(value).split(" ", 1)))
            elif name == "STACK_GLOBAL":
                last = stack.pop()
                stack.append(self._name(stack.pop(), last))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                n = int(name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            elif name == "TUPLE":
                stack.append(tuple(items))
            elif name in ("EMPTY_LIST", "LIST"):
                stack.append(items)
            elif name in ("EMPTY_DICT", "DICT"):
                stack.append(_filled({}, items))
            elif name == "FROZENSET":
                stack.append(None)
            elif name in ("APPEND", "SETITEM"):
                n = 1 if name == "APPEND" else 2
                items = stack[-n:]
                del stack[-n:]
                _filled(stack[-1], items)
            elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
                _filled(stack[-1], items)
            elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
                if name == "NEWOBJ_EX":
                    stack.pop()
                arguments = stack.pop()
                stack.append(self._made(stack.pop(), arguments))
            elif name == "BUILD":
                attributes = stack.pop()
                if isinstance(stack[-1], Tensor):
                    raise Refused(self.path, "a tensor that is changed afterwards")
                if isinstance(stack[-1], Module):
                    stack[-1].attributes = attributes
            elif name == "BINPERSID":
                stack.append(self._storage(*stack.pop()))
            elif name == "POP":
                marks.pop() if marks and marks[-1] == len(stack) else stack.pop()
            elif name == "DUP":
                stack.append(stack[-1])
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME", "POP_MARK"):
                raise Refused(self.path, f"the instruction {name} of a pickle")

    def _name(self, module: object, name: object) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused(self.path, "what has no name")
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 says it
        package, text = module.partition(".")[0], f"{module}.{name}"
        if kind := OTHER_TENSORS.get(text.removeprefix("torch._utils._rebuild_")):
            raise ValueError(f"it holds {kind}; expected plain ones")
        if text not in KNOWN and package not in PACKAGES and module != "torch.jit._pickle":
            raise Refused(self.path, text)
        return Name(text)

    def _made(self, kind: object, arguments: tuple) -> Any:
        """What a class or a function gives for arguments."""
        if not isinstance(kind, Name) or not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
            raise Refused(self.path, "a call like no other")
        if kind.text in TENSORS:
            storage, offset, size, stride, *rest = arguments
            dtype = DTYPES[rest[2].text] if kind.text == TENSORS[-1] else storage.dtype
            return Tensor(storage, offset, size, stride, dtype)
        if kind.text in DICTIONARIES:
            return {}
        if kind.text.startswith("__torch__."):
            return Module()
        if kind.text in PARAMETERS or kind.text.startswith("torch.jit._pickle."):  # which marks a list of numbers or of tensors
            return arguments[0]
        return None

    def _storage(self, kind, dtype, name, _, __, view=None) -> Storage:
        if kind != "storage" or not isinstance(dtype, Name) or dtype.text not in DTYPES or not isinstance(name, str):
            raise Refused(self.path, "what is no storage of numbers")
        storage = Storage(DTYPES[dtype.text], name, view[1] if view else 0)
        self.storages.setdefault(name, storage)
        return storage


def _filled(target: object, items: list) -> Any:
    """Puts items into a list, or as names and values into a dictionary; what else there is keeps nothing."""
    if isinstance(target, list):
        target += items
    elif isinstance(target, dict):
        target.update((name, value) for name, value in zip(items[::2], items[1::2], strict=True) if isinstance(name, str))
    return target
