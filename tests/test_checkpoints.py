"""Weights in whatever others put them into, read without running any of it."""

import argparse
import collections
import copy
import io
import itertools
import json
import os
import pathlib
import pickle
import random
import shutil
import sys
import time
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from conftest import TESTS, picture
from formula import fill_by_formula
from fuzz.weights import cases, try_case
from safetensors.torch import save_file
from torch import nn

from refine_lib import AOTGenerator, LamaGenerator, load_network, split_network
from refine_lib.networks.checkpoints import Refused, read_state
from refine_lib.networks.registry import load_generator, save_generator

TINY = TESTS / "known_answers" / "tiny-lama"


@pytest.fixture(scope="module")
def tiny_lama():
    return fill_by_formula(LamaGenerator(ngf=8, n_blocks=2)).float()


class Wrapped(nn.Module):
    """A network within a network, as in published TorchScript: its names begin with ``model.``."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


def as_script(network):
    with pytest.warns(DeprecationWarning):
        script = torch.jit.trace(Wrapped(network), torch.rand(1, 4, 32, 32), check_trace=False)
    buffer = io.BytesIO()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(script, buffer)
    return buffer.getvalue()


def saved(things, **options):
    buffer = io.BytesIO()
    torch.save(things, buffer, **options)
    return buffer.getvalue()


def as_safetensors(state, path):
    save_file(state, path)
    return path.read_bytes()


FORMATS = {
    "lightning.ckpt": lambda network, path: (TINY / "models" / "best.ckpt").read_bytes(),
    "state.pth": lambda network, path: saved(network.state_dict()),
    "before_torch_1.6.pth": lambda network, path: saved(network.state_dict(), _use_new_zipfile_serialization=False),
    "module_prefix.bin": lambda network, path: saved({f"module.{k}": v for k, v in network.state_dict().items()}),
    "within.pt": lambda network, path: saved({"epoch": 3, "gen": {"state_dict": network.state_dict()}, "opt": [1, {}]}),
    "script.pt": lambda network, path: as_script(network),
    "plain.safetensors": lambda network, path: as_safetensors(network.state_dict(), path),
    "half.safetensors": lambda network, path: as_safetensors(copy.deepcopy(network).half().state_dict(), path),
}


@pytest.fixture(scope="module")
def contents(tiny_lama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: make(tiny_lama, folder / name) for name, make in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_generator_is_found_in_every_format(name, contents, tiny_lama, tmp_path):
    (tmp_path / name).write_bytes(contents[name])
    state = load_generator(tmp_path / name).state_dict()
    wanted = tiny_lama.state_dict()
    assert list(state) == list(wanted)
    for key, value in wanted.items():
        tolerance = dict(rtol=1e-3, atol=1e-3) if name.startswith("half") else dict(rtol=0, atol=0)
        assert torch.allclose(state[key], value, **tolerance) and state[key].dtype == value.dtype, key


def test_the_published_folder_loads_where_its_packages_are_not_installed(tiny_lama, monkeypatch):
    for package in ("lightning", "omegaconf", "pytorch_lightning", "yaml"):
        monkeypatch.setitem(sys.modules, package, None)  # an import of it fails
    image, mask = picture(64, 48, dtype=torch.float32)
    model = load_network(TINY, device="cpu")
    assert torch.equal(model(image, mask), split_network(tiny_lama)(image, mask))
    names = read_state(TINY)
    assert any(name.startswith("discriminator.") for name in names) and any(name.startswith("loss_") for name in names)


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_named(name, contents, tmp_path):
    for share in (0.2, 0.6, 0.98):
        path = tmp_path / f"{share}_{name}"
        path.write_bytes(contents[name][: int(share * len(contents[name]))])
        with pytest.raises(ValueError, match=f"{path.name} is not a whole (file of weights|.safetensors file)"):
            load_network(path)


class Command:
    """What a pickle holds that would run a command as it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def replaced(content, name, new):
    """An archive with another content of one of its files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as archive:
        for entry in old.namelist():
            archive.writestr(entry, new if entry.endswith(name) else old.read(entry))
    return buffer.getvalue()


@pytest.mark.parametrize("where", ["beside", "hyper_parameters", "old format", "plain pickle", "script", "a name within torch"])
def test_a_file_that_would_run_a_command_is_refused_and_has_not_run_it(where, contents, tiny_lama, tmp_path):
    touched = tmp_path / "touched"
    command, state = Command(touched), tiny_lama.state_dict()
    content = {
        "beside": lambda: saved({"state_dict": state, "callbacks": command}),
        "hyper_parameters": lambda: saved({"hyper_parameters": {"lr": [command]}, "state_dict": state}),
        "old format": lambda: saved({"state_dict": state, "x": command}, _use_new_zipfile_serialization=False),
        "plain pickle": lambda: pickle.dumps({"state_dict": {}, "x": command}),
        "script": lambda: replaced(contents["script.pt"], "/data.pkl", pickle.dumps(command, 2)),
        "a name within torch": lambda: replaced(
            contents["state.pth"], "/data.pkl", b"ctorch.hub\nload_state_dict_from_url\n(X\x01\x00\x00\x00atR."
        ),
    }[where]()
    path = tmp_path / "evil.ckpt"
    path.write_bytes(content)
    with pytest.raises(Refused, match="which no weights need: it was refused, and nothing in it was run"):
        load_network(path)
    assert not touched.exists()
    command.__reduce__()[0](*command.__reduce__()[1])
    assert touched.exists()  # the command is one


def test_the_code_of_a_script_is_not_run(contents, tmp_path):
    """Its code may be anything: it is not even looked at."""
    names = zipfile.ZipFile(io.BytesIO(contents["script.pt"])).namelist()
    code = next(name for name in names if name.endswith(".py"))
    (tmp_path / "script.pt").write_bytes(replaced(contents["script.pt"], code, b"this is no code"))
    load_generator(tmp_path / "script.pt")
    with pytest.warns(DeprecationWarning), pytest.raises(RuntimeError):
        torch.jit.load(tmp_path / "script.pt")


def test_a_folder_holds_one_network(tmp_path):
    with pytest.raises(ValueError, match="has none; expected models/best.ckpt or one file of .ckpt"):
        load_network(tmp_path)
    shutil.copy(TINY / "models" / "best.ckpt", tmp_path / "mine.ckpt")
    load_network(tmp_path, device="cpu")
    shutil.copy(TINY / "models" / "best.ckpt", tmp_path / "other.pt")
    with pytest.raises(ValueError, match="has mine.ckpt, other.pt; expected"):
        load_network(tmp_path)


def test_an_aot_gan_is_told_from_a_lama(tmp_path):
    network = fill_by_formula(AOTGenerator(channels=24, n_blocks=3, rates=(1, 2, 4))).float()
    torch.save({"netG": network.state_dict()}, tmp_path / "aot.pth")
    found = load_generator(tmp_path / "aot.pth")
    x = torch.rand(1, 4, 48, 48)
    assert isinstance(found, AOTGenerator) and torch.equal(found(x), network(x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {}, "it has no model.1.ffc.convl2l.weight and no middle.0.block00.1.weight"),
        (lambda s: {f"a.{k}": v for k, v in s.items()} | {f"b.{k}": v for k, v in s.items()}, "it holds 2, named 'a.', 'b.'"),
        (lambda s: {k: v for k, v in s.items() if ".bn_g." not in k}, r"it lacks model.4.bn_g.bias, .* and \d+ more"),
        (lambda s: s | {"model.99.weight": torch.zeros(2)}, "it also has model.99.weight"),
        (lambda s: s | {"model.18.bias": torch.zeros(7)}, r"it has model.18.bias \(7,\)"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("model.4.")}, "it has no .*model.4.ffc.convl2l.weight"),
    ],
)
def test_what_is_not_one_whole_generator_is_named(change, words, tiny_lama, tmp_path):
    torch.save(change(tiny_lama.state_dict()), tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=f"weights.pth does not hold a LaMa, AOT-GAN, MAT, ZITS or latent diffusion generator: .*{words}"
    ):
        load_network(tmp_path / "weights.pth")


def test_what_is_no_file_of_weights_is_named(tmp_path):
    with pytest.raises(ValueError, match="is not a whole .safetensors file"):
        (tmp_path / "a.safetensors").write_text("{}")
        load_network(tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(ValueError, match="it is an archive, but not one of torch"):
        load_network(tmp_path / "photos.zip")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_state(tmp_path / "none.ckpt")


@pytest.mark.parametrize("arguments", [{"channels": 6}, {"channels": 0}, {"n_blocks": 0}, {"rates": (0, 1)}])
def test_an_aot_gan_out_of_range_is_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        AOTGenerator(**arguments)


def archive_of(content, **storages):
    """An archive as torch writes it, with this pickle and these storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, numbers in storages.items():
            archive.writestr(f"archive/data/{name}", numbers)
    return buffer.getvalue()


def words(text):
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def tensor(n, step, kind=b"Float"):
    """What a pickle says of a tensor of n numbers in the storage a, which it says to have four."""
    storage = b"(" + words("storage") + b"ctorch\n" + kind + b"Storage\n" + words("a") + words("cpu") + b"K\x04tQ"
    n, step = (b"\x8a\x08" + number.to_bytes(8, "little", signed=True) for number in (n, step))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + n + b"\x85" + step + b"\x85tR"


def laughs(innermost, close, levels=7):
    """Ten of ten of ten ... of the innermost, by few instructions."""
    return b"(" + innermost + close + b"q\x000" + (b"(" + 10 * b"h\x00" + close + b"q\x000") * levels + b"h\x00"


def old_format(*pickles):
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*head, *pickles])


TEXT, LISTS, TUPLES = b"cbuiltins\nstr\n", laughs(words("lol"), b"l"), laughs(b"K\x01", b"t", levels=9)
LONG = words("numpy." + "x" * 3_000_000)
HOSTILE = {
    "a text of nested lists": (archive_of(TEXT + LISTS + b"\x85R."), "it has no model.1"),
    "nested lists as the kind of a storage": (archive_of(b"(" + LISTS + 4 * b"N" + b"tQ."), "asks for what is no storage"),
    "nested lists as the name of a class": (archive_of(words("os") + LISTS + b"\x93."), "asks for what has no name"),
    "a nested tuple as a key": (archive_of(b"}" + TUPLES + b"Ns."), "it has no model.1"),
    "a nested tuple in a set": (archive_of(b"\x8f(" + TUPLES + b"\x90."), "it has no model.1"),
    "a nested tuple as a storage's name": (old_format(b"}.", b"(" + TUPLES + b"l."), "a storage's name is no text"),
    "a long name of a class": (archive_of(b"cos\n" + b"x" * 1_000_000 + b"\n."), "asks for 'os.xxxx"),
    "an escape sequence": (archive_of(b"cos\n\x1b[2J\n."), r"asks for 'os.\\x1b\[2J'"),
    "a long name again and again": (
        archive_of(LONG + b"q\x010" + b"h\x01h\x01\x930" * 100_000 + b"}."),
        "asks for what has no name",
    ),
    "two long keys that are equal": (
        archive_of(LONG + b"q\x010" + LONG + b"q\x020}h\x01Ns" + b"h\x02Ns" * 100_000 + b"."),
        "it has no model.1",
    ),
    "a large place in the memo": (archive_of(b"}r\x00\xc2\xeb\x0b."), "it has no model.1"),
    "more instructions than any": (archive_of(b"}" + b"N0" * 250_000 + b"."), "more than 500,000 instructions"),
    "a tensor that repeats itself": (
        archive_of(b"}" + words("t") + tensor(2**31, 0) + b"s.", a=bytes(16)),
        "more numbers than",
    ),
    "a tensor beyond its storage": (
        archive_of(b"}" + words("t") + tensor(3, 2) + b"s.", a=bytes(16)),
        "a storage of 4 numbers",
    ),
    "a step that overflows": (archive_of(b"}" + words("t") + tensor(3, 2**62) + b"s.", a=bytes(16)), "a storage of 4 numbers"),
    "a tensor before its storage": (archive_of(b"}" + words("t") + tensor(2, -1) + b"s.", a=bytes(16)), "not of whole numbers"),
    "a tensor that is changed": (
        archive_of(
            b"}" + words("t") + tensor(0, 1) + b"(" + tensor(0, 1) + b"K\x00" + b"J\x00\x00\x00\x01\x85K\x01\x85tbs.",
            a=b"",
        ),
        "asks for a tensor that is changed afterwards",
    ),
    "a storage longer than an old file": (
        old_format(b"}" + words("t") + tensor(4, 1) + b"s.", pickle.dumps(["a"], 2), (2**60).to_bytes(8, "little")),
        "it ends early",
    ),
    "more numbers than an old file has": (
        old_format(b"}" + words("t") + tensor(2**33, 1) + b"s.", pickle.dumps(["a"], 2), (4).to_bytes(8, "little"), bytes(16)),
        "a storage of 4 numbers",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_takes_little_time_and_memory(name, tmp_path):
    content, words = HOSTILE[name]
    (tmp_path / "weights.ckpt").write_bytes(content)
    began = time.process_time()
    with pytest.raises(ValueError, match=f"weights.ckpt .*{words}") as caught:
        load_network(tmp_path / "weights.ckpt", "cpu")
    assert time.process_time() - began < 2 and len(str(caught.value)) < 1000


def test_a_network_does_not_share_few_numbers_among_many_names(tmp_path):
    """Each name would take a memory of its own as its numbers become float32."""
    state, shared = LamaGenerator(ngf=16, n_blocks=20).state_dict(), {}
    state = {name: shared.setdefault(t.shape, t.half() if t.ndim else t) for name, t in state.items()}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth .*its tensors have more numbers than a file of its size can hold"):
        load_generator(tmp_path / "weights.pth")


def test_entries_of_an_archive_that_overlap_are_not_all_read(tmp_path):
    """A hundred storages of a million bytes, each of them the next one with its header."""
    names = [f"{i:05}" for i in range(100)]
    pickled = b"}" + b"".join(words(name) + tensor(4, 1).replace(words("a"), words(name)) + b"s" for name in names) + b"."
    with zipfile.ZipFile(tmp_path / "weights.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        content, entries = bytes(10**6), []
        for name in names:
            entry = zipfile.ZipInfo(f"archive/data/{name}")
            entry.file_size = entry.compress_size = len(content)
            entry.CRC = zlib.crc32(content)
            content = entry.FileHeader() + content
            entry.header_offset = -len(content)
            entries.append(entry)
        archive.fp.write(content)
        archive.start_dir = archive.fp.tell()
        for entry in entries:
            entry.header_offset += archive.start_dir
        archive.filelist += entries
    with pytest.raises(ValueError, match="weights.ckpt .*(it has more in it than its own size|Overlapped entries)"):
        read_state(tmp_path / "weights.ckpt")


def test_a_header_of_safetensors_is_bounded_and_its_tensors_do_not_overlap(tmp_path):
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    for length, header, told in [
        (2**27, {}, "takes 134,217,728 bytes; expected at most"),
        (None, {"a": one, "b": one}, "not a whole .safetensors"),
        (None, {"a": one | {"shape": [2**40]}}, "not a whole .safetensors"),
        (None, {"a": one | {"data_offsets": [0, 2**40]}}, "not a whole .safetensors"),
    ]:
        text = json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes((length or len(text)).to_bytes(8, "little") + text + bytes(16))
        with pytest.raises(ValueError, match=f"a.safetensors is .*{told}"):
            read_state(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.to_sparse(), "it holds a sparse tensor; expected plain ones"),
        (lambda t: t.to("meta"), "it holds a meta tensor, which has no numbers; expected plain ones"),
        (lambda t: torch.nested.nested_tensor([t]), "it holds a nested tensor; expected plain ones"),
        (lambda t: t.to(torch.complex64), r"it has model.18.bias \(3,\) of complex numbers"),
        (lambda t: t.char(), r"it has model.18.bias \(3,\) of whole numbers"),
    ],
)
def test_tensors_of_a_kind_that_no_network_here_has_are_named(change, told, tiny_lama, tmp_path):
    state = tiny_lama.state_dict()
    with warnings.catch_warnings(action="ignore"):  # on nested tensors, a prototype
        torch.save(state | {"model.18.bias": change(state["model.18.bias"])}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"weights.pth .*{told}"):
        load_network(tmp_path / "weights.pth")


def test_quantized_tensors_are_named(tmp_path):
    """Made by hand: torch is about to forget how."""
    content = archive_of(b"ctorch._utils\n_rebuild_qtensor\n.")
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError, match="weights.pth .*it holds a quantized tensor; expected plain ones"):
        load_network(tmp_path / "weights.pth")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_numbers_of_another_width_become_float32(dtype, ending, tiny_lama, tmp_path):
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tiny_lama.state_dict().items()}
    {"pth": torch.save, "safetensors": save_file}[ending](state, tmp_path / f"weights.{ending}")
    found = load_generator(tmp_path / f"weights.{ending}").state_dict()
    assert all(torch.equal(found[name], t.float() if t.is_floating_point() else t) for name, t in state.items())


@pytest.mark.parametrize(
    "options", [{}, {"pickle_protocol": 4}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}]
)
def test_tensors_are_found_beside_whatever_lies_in_a_checkpoint(options, tiny_lama, tmp_path):
    flat = torch.arange(60.0)
    tensors = {
        "turned": flat[3:33].view(5, 6).t(),
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(3),
        "bool": torch.tensor([True, False]),
        "bfloat16": torch.rand(3).bfloat16(),
        "complex": torch.rand(3, dtype=torch.complex64),
        "parameter": nn.Parameter(torch.rand(3)),
    }
    beside = {
        "optimizer": torch.optim.Adam(tiny_lama.parameters()).state_dict(),
        "numpy": [np.float64(3), np.arange(5), np.random.RandomState(0).get_state()],
        "plain": [
            3 + 4j,
            {1, 2},
            frozenset([1]),
            b"abc",
            bytearray(b"abc"),
            2**100,
            -5,
            1.5,
            None,
            "x" * 5000,
            (1, (2, (3, 4))),
        ],
        "torch": [torch.Size([1, 2]), torch.device("cpu"), torch.float32],
        "others": [argparse.Namespace(lr=0.1), pathlib.PurePosixPath("a"), collections.defaultdict(list, {"a": [1]})],
        1: {"not by a name": torch.rand(2)},
    }
    torch.save({"state_dict": tensors, **beside}, tmp_path / "weights.ckpt", **options)
    state = read_state(tmp_path / "weights.ckpt")
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], t) and state[name].dtype == t.dtype for name, t in tensors.items())


def test_a_parameter_with_attributes_of_its_own_is_a_parameter(tiny_lama, tmp_path):
    state = dict(tiny_lama.named_parameters()) | dict(tiny_lama.named_buffers())
    state["model.18.bias"] = nn.Parameter(state["model.18.bias"].detach().clone())
    state["model.18.bias"].mine = 7
    torch.save(state, tmp_path / "weights.pth")
    assert torch.equal(load_generator(tmp_path / "weights.pth").state_dict()["model.18.bias"], state["model.18.bias"])


@pytest.mark.parametrize(
    ("stem", "ending", "write"), [("model", "safetensors", save_file), ("pytorch_model", "bin", torch.save)]
)
def test_weights_in_several_files_are_one_network(stem, ending, write, tiny_lama, tmp_path):
    state = tiny_lama.state_dict()
    names = [f"{stem}-{i:05}-of-00003.{ending}" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        write({key: state[key] for key in list(state)[i::3]}, tmp_path / name)
    index = tmp_path / f"{stem}.{ending}.index.json"
    index.write_text('{"weight_map": {}}')
    for path in (tmp_path, tmp_path / names[1], index):
        found = load_generator(path).state_dict()
        assert all(torch.equal(found[name], t) for name, t in state.items())
    (tmp_path / names[2]).rename(tmp_path / "other.txt")
    for path in (tmp_path, tmp_path / names[1], index):
        with pytest.raises(ValueError, match=f"is one of 3 files of weights, of which {names[2]} is missing"):
            load_generator(path)
    (tmp_path / "other.txt").rename(tmp_path / names[2])
    shutil.copy(tmp_path / names[0], tmp_path / f"other.{ending}")
    with pytest.raises(ValueError, match="and 1 more; expected models/best.ckpt or one file of"):
        load_generator(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_what_cannot_be_read_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle.pt").symlink_to(tmp_path / "circle.pt")
    (tmp_path / "upwards").symlink_to(tmp_path)
    for name in ("pipe.pt", "/dev/zero"):
        with pytest.raises(ValueError, match=f"{name} is neither a file nor a folder"):
            load_network(tmp_path / name)
    for name in ("gone.pt", "circle.pt", "x" * 500, "pipe.pt/x", "a\0b"):
        with pytest.raises(FileNotFoundError, match="name_or_path is .*; expected 'mini-lama'"):
            load_network(tmp_path / name)
    with pytest.raises(ValueError, match="folder.pt has none; expected models/best.ckpt"):
        load_network(tmp_path / "folder.pt")
    with pytest.raises(ValueError, match=f"{tmp_path} has none; expected models/best.ckpt"):
        load_network(tmp_path)
    (tmp_path / "link.ckpt").symlink_to(TINY / "models" / "best.ckpt")
    load_network(tmp_path, "cpu")


def test_a_folder_with_very_many_folders_is_not_searched(tmp_path):
    for i in range(1001):
        (tmp_path / f"{i}").mkdir()
    with pytest.raises(ValueError, match="has more than 1,000 folders in it; expected that of a network"):
        load_network(tmp_path)


def test_a_network_of_very_many_layers_is_not_built(tmp_path):
    lama = LamaGenerator(ngf=1, n_blocks=1).state_dict()
    more = {f"model.{i}.conv1.ffc.convl2l.weight": torch.zeros(1) for i in range(2000)}
    aot = AOTGenerator(channels=32, n_blocks=1, rates=(1,) * 8).state_dict()  # read as rates of up to 128
    for state, told in [(lama | more, "it has 2,000 layers named .*; expected at most"), (aot, "it has 8 layers named")]:
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=told):
            load_network(tmp_path / "weights.pth")


def test_weights_that_are_not_finite_are_named(tiny_lama, tmp_path):
    torch.save(tiny_lama.state_dict() | {"model.18.bias": torch.full((3,), torch.nan)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth holds a network that cannot be used: .*not finite"):
        load_network(tmp_path / "weights.pth", "cpu")


def test_a_damaged_file_gives_a_network_or_an_error_that_names_it(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # ten times faster for networks as small as these, where other tests run too
    try:
        for name, content in itertools.islice(cases(random.Random(0)), 200):
            (tmp_path / name).write_bytes(content)
            try_case(tmp_path / name)
    finally:
        torch.set_num_threads(threads)


def test_names_that_no_tensor_of_a_network_has_are_left_out(tmp_path):
    deep = {"t": torch.ones(2)}
    for _ in range(200):
        deep = {"ab": deep}
    torch.save(
        {"deep": deep, "x" * 501: torch.ones(2), "\x1b[2J": torch.ones(2), "y": torch.ones(2)}, tmp_path / "weights.ckpt"
    )
    assert list(read_state(tmp_path / "weights.ckpt")) == ["y"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="takes /proc as a place where nobody can write")
def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    network = LamaGenerator(ngf=1, n_blocks=1)
    (tmp_path / "file").write_text("mine")
    for path, told in [
        ("/proc/weights.safetensors", "/proc/weights.safetensors cannot be written"),
        (tmp_path / "none" / "a.safetensors", "path is .*none/a.safetensors; expected a file in a folder that is there"),
        (tmp_path / "file" / "a.safetensors", "path is .*file/a.safetensors; expected a file in a folder that is there"),
        (tmp_path, f"path is {tmp_path}, which is there and is no file"),
        (tmp_path / ("x" * 300), "x cannot be written: File name too long"),
    ]:
        with pytest.raises(OSError, match=told):
            save_generator(network, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_what_is_compressed_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, 2))
    with pytest.raises(ValueError, match="its data.pkl is compressed"):
        read_state(tmp_path / "weights.ckpt")


def test_dictionaries_that_hold_each_other_are_gone_through_once(tmp_path):
    nested = {"t": torch.ones(2)}
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    nested["itself"] = nested
    torch.save(nested, tmp_path / "weights.ckpt")
    assert len(read_state(tmp_path / "weights.ckpt")) == 1


def test_tensors_share_a_storage_as_they_did(tmp_path):
    flat = torch.arange(1000.0)
    torch.save({f"t{i}": flat[i : i + 10] for i in range(900)}, tmp_path / "weights.ckpt")
    state = read_state(tmp_path / "weights.ckpt")
    assert torch.equal(state["t7"], flat[7:17])
    assert len({t.untyped_storage().data_ptr() for t in state.values()}) == 1


@pytest.mark.parametrize("name", ["__torch__.Net", "torch._utils._rebuild_tensor_v2", "omegaconf.DictConfig"])
def test_a_file_does_not_change_what_reads_it(name, contents, tmp_path):
    module, _, name = name.rpartition(".")
    slots = pickle.dumps((None, {"__defaults__": (7,), "__setstate__": len, "function": len}), 2)[2:-1]
    (tmp_path / "evil.ckpt").write_bytes(archive_of(b"c" + module.encode() + b"\n" + name.encode() + b"\n" + slots + b"b."))
    try:
        read_state(tmp_path / "evil.ckpt")
    except ValueError:
        pass
    for good in ("script.pt", "state.pth", "lightning.ckpt"):
        (tmp_path / good).write_bytes(contents[good])
        load_generator(tmp_path / good)


def test_counters_that_are_missing_are_made(tiny_lama, tmp_path):
    """TorchScript may leave out what batch norms have counted; the network can be saved as it is, all the same."""
    torch.save({k: v for k, v in tiny_lama.state_dict().items() if "num_batches" not in k}, tmp_path / "weights.pth")
    network = load_generator(tmp_path / "weights.pth")
    save_generator(network, tmp_path / "weights.safetensors")
    x = torch.rand(1, 4, 32, 32)
    assert torch.equal(network.eval()(x), tiny_lama(x))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor(1.0), r"its model.1.ffc.convl2l.weight is \(\), no convolution's weights"),
        (torch.zeros(0, 4, 7, 7), r"is \(0, 4, 7, 7\), no convolution's weights"),
        (torch.zeros(8, 4, 7, 7, dtype=torch.int32), r"it has model.1.ffc.convl2l.weight \(8, 4, 7, 7\) of whole numbers"),
        (torch.zeros(9, 4, 7, 7), "does not hold a LaMa, AOT-GAN, MAT, ZITS or latent diffusion generator"),
    ],
)
def test_a_tensor_of_another_kind_is_named(tensor, words, tiny_lama, tmp_path):
    torch.save(tiny_lama.state_dict() | {"model.1.ffc.convl2l.weight": tensor}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=words):
        load_network(tmp_path / "weights.pth")


def test_a_picture_too_small_for_an_aot_gan_is_named():
    model = split_network(AOTGenerator(channels=8, n_blocks=1, rates=(1, 8)))
    with pytest.raises(ValueError, match="image is 32 x 40 px, too small for AOT-GAN; expected more than 32 px a side"):
        model(*picture(32, 40, dtype=torch.float32))
