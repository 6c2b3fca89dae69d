"""Files of weights that are damaged or hostile, made by chance from good ones; and what must become of each of them."""

import io
import itertools
import json
import pickle
import pickletools
import struct
import warnings
import zipfile

import torch
from safetensors.torch import save

from refine_lib import AOTGenerator, LamaGenerator, SplitNetwork, load_network
from refine_lib.networks.pickles import CONSTANTS, DICTIONARIES, DTYPES, PARAMETERS, TENSORS

LONGEST_MESSAGE = 3000
NAMES = [
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "builtins.str",
    "builtins.set",
    "numpy.ndarray",
    "omegaconf.DictConfig",
]
NAMES += [
    "torch.hub.load",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_qtensor",
    "torch.Size",
    "torch.device",
]
NAMES += ["__torch__.Net", "torch.jit._pickle.build_intlist", *DICTIONARIES, *PARAMETERS, *TENSORS, *DTYPES]
NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    255,
    256,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    -1,
    -2,
    -(2**31),
    -(2**63),
]
DTYPES_OF_SAFETENSORS = "BOOL U8 I8 I16 U16 F16 BF16 I32 U32 F32 F64 I64 U64 C64 F8_E5M2 F8_E4M3 F8_E8M0 F4 F6_E2M3 X".split()


def cases(rng):
    """Without end: a file's name and its content, made with the random numbers of a ``random.Random``."""
    good = _good_files()
    for i in itertools.count():
        name, content = rng.choice(list(good.items()))
        changes = [flipped, cut, spliced, {"safetensors": header_changed, "old": old_pickle_changed}.get(name, archive_changed)]
        change = rng.choice([*changes, changes[-1], changes[-1]])
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            try:
                content = change(rng, content)
            except Exception:  # it is no longer what it was, and cannot be taken apart
                break
        ending = rng.choice([".pt", ".ckpt", ".bin"]) if name != "safetensors" else ".safetensors"
        yield f"{i:06}_{name}_{change.__name__}{ending}", content


def try_case(path):
    """Loads a file. Raises AssertionError unless there is a network, or an error that names the file and is short."""
    try:
        found = load_network(path, device="cpu")
    except (FileNotFoundError, ValueError) as error:
        assert path.name in str(error), f"{path} is not named: {type(error).__name__}: {error}"
        assert len(str(error)) < LONGEST_MESSAGE, f"the message about {path} has {len(str(error))} characters"
    except Exception as error:
        raise AssertionError(f"{path}: {type(error).__name__}: {error}") from error
    else:
        assert isinstance(found, SplitNetwork)


def flipped(rng, content):
    """Some bytes are others, most of them near the ends, where the tables are."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 16])):
        reach = rng.choice([64, 4096, len(changed)])
        place = rng.randrange(min(reach, len(changed)))
        changed[place if rng.random() < 0.5 else -1 - place] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(changed)


def cut(rng, content):
    """It ends early."""
    return content[: rng.randrange(min(rng.choice([16, 4096, len(content)]), len(content)))]


def spliced(rng, content):
    """A piece of it is left out, or stands somewhere else too."""
    start, place = (rng.randrange(len(content)) for _ in range(2))
    end = start + rng.choice([1, 2, 4, 100, 5000])
    return content[:start] + content[end:] if rng.random() < 0.5 else content[:place] + content[start:end] + content[place:]


def pickle_changed(rng, content):
    """Instructions of a pickle are left out, doubled, exchanged, changed, or put in."""
    starts = [place for _, _, place in pickletools.genops(content)] + [len(content)]
    parts = [content[start:end] for start, end in itertools.pairwise(starts)]
    for _ in range(rng.choice([1, 1, 2, 4, 20])):
        place, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(5):
            case 0:
                parts[place] = b""
            case 1:
                parts.insert(place, parts[other] * rng.choice([1, 1, 1, 50]))
            case 2:
                parts[place], parts[other] = parts[other], parts[place]
            case 3:
                parts.insert(place, instruction(rng))
            case 4:  # a number, or a name, for another
                same = [part for part in parts if part[:1] == parts[place][:1]]
                parts[place] = number(rng.choice(NUMBERS)) if parts[place][:1] in b"KMJ\x8a" else rng.choice(same)
    return b"".join(parts)


def made_up(rng):
    """Instructions of all kinds, one after the other."""
    return b"}" + b"".join(instruction(rng) for _ in range(rng.choice([1, 3, 10, 100, 3000]))) + b"."


def number(value):
    """The instructions that put a whole number on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def instruction(rng):
    """Any instruction of a pickle, with an argument that may be right."""
    module, _, name = rng.choice(NAMES).rpartition(".")
    text = rng.choice(["storage", "0", "cpu", "state_dict", "model.1.ffc.convl2l.weight", "a" * rng.choice([0, 255, 1000])])
    others = [code.code.encode("latin-1") for code in pickletools.opcodes if code.arg is None]
    others += [
        code.code.encode("latin-1") + rng.randbytes(rng.choice([1, 2, 4, 8])) for code in pickletools.opcodes if code.arg
    ]
    shared = b"(" + b"h" + bytes([rng.randrange(256)])
    nested = (
        rng.choice([b"]q\xff0", b"", b")q\xff0"]) + (b"(" + b"h\xff" * 10 + rng.choice([b"t", b"l"]) + b"q\xff0") * 8 + b"h\xff"
    )
    made = [f"c{module}\n{name}\n".encode(), number(rng.choice(NUMBERS)), pickle.dumps(text, 2)[2:-1], shared, nested]
    made += [f"c{module}\n{name}\n".encode() + nested + b"\x85R", nested + b"Ns", number(2**16) + b"r" + rng.randbytes(4)]
    return rng.choice([*made, rng.choice(others), pickle.dumps(rng.choice(list(CONSTANTS.values())), 2)[2:-1]])


def archive_changed(rng, content):
    """Another pickle, or other entries, in an archive whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    choice = rng.choice(["pickle", "pickle", "pickle", "pickle", "entries"])
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w") as archive:  # on names that are double
        for entry, data in entries:
            if choice == "pickle" and entry.filename.endswith("data.pkl"):
                data = pickle_changed(rng, data) if rng.random() < 0.8 else made_up(rng)
            if choice == "entries" and rng.random() < 0.1:
                match rng.randrange(7):
                    case 0:
                        continue
                    case 1:
                        entry.filename = rng.choice(
                            ["../../evil", "/evil", "a" * 5000, "evil/data.pkl", rng.choice(entries)[0].filename]
                        )
                    case 2:
                        entry.compress_type = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
                    case 3:
                        data = flipped(rng, data) if data else b"x"
                    case 4:
                        data = cut(rng, data) if data else data
                    case 5:
                        entry.external_attr = 0o120777 << 16  # a link
                    case 6:
                        archive.writestr(rng.choice(entries)[0].filename, data)
            archive.writestr(entry.filename, data, entry.compress_type)
    content = bytearray(buffer.getvalue())
    if choice == "entries" and rng.random() < 0.3:  # where an entry begins, how long it is, how many there are
        place = content.rfind(rng.choice([b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04"])) + 4 + rng.randrange(40)
        content[place : place + 4] = struct.pack("<i", rng.choice([n for n in NUMBERS if -(2**31) <= n < 2**31]))
    return bytes(content)


def old_pickle_changed(rng, content):
    """One of the pickles of a file from before torch 1.6 is another."""
    stream, ends = io.BytesIO(content), [0]
    for _ in range(5):
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    chosen = rng.choice([0, 3, 3, 3, 3, 4])
    changed = pickle_changed(rng, content[ends[chosen] : ends[chosen + 1]])
    rest = content[ends[chosen + 1] :]
    if chosen == 4 and rng.random() < 0.5:  # how many numbers the first storage has
        rest = struct.pack("<q", rng.choice([n for n in NUMBERS if -(2**63) <= n < 2**63])) + rest[8:]
    return content[: ends[chosen]] + changed + rest


def header_changed(rng, content):
    """Another header in a .safetensors."""
    n = int.from_bytes(content[:8], "little")
    header, numbers = json.loads(content[8 : 8 + n]), content[8 + n :]
    for name in rng.sample(list(header), rng.choice([1, 1, 2, 8])):
        tensor = header[name]
        match rng.randrange(8):
            case 0:
                tensor["dtype"] = rng.choice(DTYPES_OF_SAFETENSORS)
            case 1:
                tensor["shape"] = rng.choices(NUMBERS, k=rng.choice([0, 1, 4, 100]))
            case 2:
                tensor["shape"] = rng.choice([tensor["shape"][::-1], [*tensor["shape"], 1], 7, [[]], ["1"], [1.5], None])
            case 3:
                tensor["data_offsets"] = rng.choices([*NUMBERS, len(numbers)], k=2)
            case 4:
                tensor["data_offsets"] = rng.choice(list(header.values())).get("data_offsets")
            case 5:
                del header[name]
            case 6:
                header[rng.choice(["", "a" * 5000, "\x1b[2J\n", "__metadata__", f"x.{name}", "\U0001f600"])] = header.pop(name)
            case 7:
                header[name] = rng.choice([None, [], {}, "text", 3, [[[]]]])
    text = json.dumps(header).encode()
    if rng.random() < 0.1:
        text = rng.choice([b"[" * 1000, text * 2, text + b" " * 100, b"", b"\xff" + text])
    length = len(text) if rng.random() < 0.9 else rng.choice(NUMBERS) % 2**64
    return length.to_bytes(8, "little") + text + numbers


def _good_files():
    """A small network in every format, and one of another kind."""
    torch.manual_seed(0)
    lama = LamaGenerator(ngf=4, n_blocks=1).eval()
    state = lama.state_dict()
    eighths = {name: t.to(torch.float8_e5m2) if t.ndim == 4 else t for name, t in state.items()}
    with warnings.catch_warnings(action="ignore"):  # on the age of TorchScript
        script = torch.jit.trace(lama, torch.rand(1, 4, 32, 32), check_trace=False)
        script = torch.jit.save(script, buffer := io.BytesIO()) or buffer.getvalue()
    aot = AOTGenerator(channels=8, n_blocks=1, rates=(1, 2)).state_dict()
    return {
        "state": _saved(state),
        "within": _saved({"epoch": 3, "state_dict": {f"gen.{k}": v for k, v in eighths.items()}, "opt": [1, {"lr": 0.1}]}),
        "aot": _saved({name: t.half() for name, t in aot.items()}),
        "old": _saved(state, _use_new_zipfile_serialization=False),
        "script": script,
        "safetensors": save(state),
    }


def _saved(things, **options):
    torch.save(things, buffer := io.BytesIO(), **options)
    return buffer.getvalue()
