"""Weights in whatever others put them into, read without running any of it."""

import copy
import io
import os
import pickle
import shutil
import sys
import zipfile

import pytest
import torch
from conftest import TESTS, picture
from formula import fill_by_formula
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
    with pytest.raises(ValueError, match=f"weights.pth does not hold a LaMa or AOT-GAN generator: .*{words}"):
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


# A tensor of two billion numbers with a stride of 0, on a storage of four.
HUGE = b"ctorch._utils\n_rebuild_tensor_v2\n("
HUGE += b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x04tQ"
HUGE += b"K\x00J\x00\x00\x00\x7f\x85K\x00\x85tR"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive_of(b"}r\x00\xc2\xeb\x0b."), "asks for more memory than it can need"),  # memo place 200,000,000
        (archive_of(b"}X\x01\x00\x00\x00t" + HUGE + b"s.", a=bytes(16)), "has a storage of 4 numbers"),
    ],
)
def test_a_small_file_does_not_take_much_memory(content, words, tmp_path):
    (tmp_path / "weights.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_state(tmp_path / "weights.ckpt")


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
        (torch.zeros(9, 4, 7, 7), "does not hold a LaMa or AOT-GAN generator"),
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
