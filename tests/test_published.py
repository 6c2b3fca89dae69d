"""Networks that others trained: fetched from a server on this machine, checked, converted and kept."""

import hashlib
import re
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TESTS, picture
from formula import fill_by_formula
from safetensors import safe_open
from torch import nn

from refine_lib import AOTGenerator, LamaGenerator, load_network, split_network
from refine_lib.networks import EMBEDDED, published, settings_for
from refine_lib.networks.published import published_generator
from refine_lib.networks.registry import ARCHITECTURES, WEIGHTS, Architecture, Source, Weights, register, save_generator, width

TINY = TESTS / "known_answers" / "tiny-lama"


@pytest.fixture
def host():
    """A server that plays the host of weights; a test says how it behaves."""
    host = SimpleNamespace(content=b"", contents={}, status=200, ends_after=None, pause=0.0, stalls=False, asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                return self.end_headers()
            host.asked.append(self.path)
            if host.status != 200:
                return self.send_error(host.status)
            content = host.contents.get(self.path, host.content)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            end = host.ends_after or len(content)
            for start in range(0, end, 50_000):
                time.sleep(host.pause)
                self.wfile.write(content[start : min(start + 50_000, end)])
            if host.stalls:
                time.sleep(1)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_port}"
    yield host
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def big_lama(host, tmp_path, monkeypatch):
    """A zip as Big-LaMa's, with the tiny network, on the server and in the table."""
    with zipfile.ZipFile(tmp_path / "big-lama.zip", "w") as archive:
        archive.write(TINY / "models" / "best.ckpt", "big-lama/models/best.ckpt")
        archive.write(TINY / "config.yaml", "big-lama/config.yaml")
    host.content = (tmp_path / "big-lama.zip").read_bytes()
    source = Source(f"{host.url}/somewhere/big-lama.zip", digest(host.content), "big-lama/models/best.ckpt")
    published_at(monkeypatch, "big-lama", source)
    return source


def published_at(monkeypatch, name, *sources):
    monkeypatch.setitem(WEIGHTS, name, Weights((sources,)))


def digest(content):
    return hashlib.sha256(content).hexdigest()


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_published_network_is_fetched_once_and_kept_as_a_generator_alone(host, cache, big_lama):
    model = load_network("big-lama", device="cpu", progress=False)
    image, mask = picture(64, 64, dtype=torch.float32)
    wanted = split_network(fill_by_formula(LamaGenerator(ngf=8, n_blocks=2)).float())
    assert torch.equal(model(image, mask), wanted(image, mask))
    assert files(cache) == ["big-lama.safetensors"]
    with safe_open(cache / "big-lama.safetensors", framework="pt") as file:
        assert file.metadata() == {"source": big_lama.url, "sha256": big_lama.sha256}
        assert all(name.startswith("model.") for name in file.keys())
    host.status = 404
    assert torch.equal(load_network("big-lama", device="cpu")(image, mask), model(image, mask))
    assert len(host.asked) == 1


def test_a_file_that_ends_early_is_no_file(host, cache, big_lama):
    host.ends_after = 300_000
    with pytest.raises(ConnectionError, match=r"big-lama could not be fetched .*300000 bytes read.* Run again; or put"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []
    host.ends_after = None
    published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.safetensors"]


def test_a_keyboard_interrupt_leaves_nothing_behind(host, cache, big_lama, monkeypatch):
    class Interrupted(published.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(published, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        published_generator("big-lama", progress=False)
    assert files(cache) == []


def test_a_mirror_of_hugging_face_is_asked_in_its_stead(host, cache, big_lama, monkeypatch):
    path = "camenduru/big-lama/resolve/main/big-lama.zip"
    source = Source(f"https://huggingface.co/{path}", big_lama.sha256, big_lama.member)
    published_at(monkeypatch, "big-lama", source)
    monkeypatch.setenv("HF_ENDPOINT", f"{host.url}/mirror/")
    published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.safetensors"] and host.asked == [f"/mirror/{path}"]


@pytest.fixture
def on_the_hub(big_lama, monkeypatch):
    """The same file, at an address on Hugging Face."""
    path = "someone/big-lama/resolve/05cb2be7/files/big-lama.zip"
    source = Source(f"https://huggingface.co/{path}", big_lama.sha256, big_lama.member)
    published_at(monkeypatch, "big-lama", source)
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    return source


PLACES = {
    "HF_HUB_CACHE": ("{}", "{}"),
    "HF_HOME": ("{}", "{}/hub"),
    "XDG_CACHE_HOME": ("{}", "{}/huggingface/hub"),
    "HOME": ("{}", "{}/.cache/huggingface/hub"),
}


@pytest.mark.parametrize("variable", PLACES)
def test_a_file_in_the_hubs_own_cache_is_used_and_stays(host, cache, on_the_hub, tmp_path, monkeypatch, variable):
    value, hub = (text.format(tmp_path / "kept") for text in PLACES[variable])
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = Path(hub, "models--someone--big-lama")
    for revision, content in (("0aa", b"an older one"), ("1bb", host.content)):
        blob, link = folder / "blobs" / digest(content), folder / "snapshots" / revision / "files" / "big-lama.zip"
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True)
        blob.write_bytes(content)
        link.symlink_to(blob)
    before = sorted(folder.rglob("*"))
    published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.safetensors"] and not host.asked and sorted(folder.rglob("*")) == before


def test_nothing_is_asked_where_the_environment_says_offline(host, cache, big_lama, on_the_hub, monkeypatch):
    published_at(monkeypatch, "big-lama", on_the_hub, big_lama)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match=r"not asked.* Run again; or put .*HF_HUB_OFFLINE is '1': is this right\?"):
        published_generator("big-lama", progress=False)
    assert not host.asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    assert published_generator("big-lama", progress=False).is_file() and len(host.asked) == 1


def test_a_proxy_is_used_and_named_without_its_password(host, cache, on_the_hub, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(ConnectionError, match="HTTPS_PROXY is 'http://127.0.0.1:9': is this right") as error:
        published_generator("big-lama", progress=False)
    assert "secret" not in str(error.value)
    monkeypatch.setenv("HTTPS_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", host.url)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    published_generator("big-lama", progress=False)
    assert host.asked == ["http://mirror.example/someone/big-lama/resolve/05cb2be7/files/big-lama.zip"]


@pytest.mark.parametrize("address", ["hf-mirror.example", "ftp://mirror.example", "http://"])
def test_a_mirror_that_is_no_address_is_named(cache, on_the_hub, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises((ConnectionError, ValueError), match=f"HF_ENDPOINT is '{address}'"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []


def test_a_corrupted_file_is_never_read_and_never_kept(host, cache, big_lama, monkeypatch):
    host.content = host.content[:200_000] + b"?" + host.content[200_001:]
    monkeypatch.setattr(published, "read_state", lambda path: pytest.fail("it was read"))
    told = rf"is not the published file: .* {digest(host.content)}; expected {big_lama.sha256}\)\. Run again; or put"
    with pytest.raises(ValueError, match=told):
        published_generator("big-lama", progress=False)
    assert files(cache) == []


def test_where_there_is_no_network_the_message_says_what_to_put_where(host, cache, big_lama):
    host.status = 404
    by_hand = f"put {big_lama.url} into the folder {cache}, as big-lama.zip"
    with pytest.raises(ConnectionError, match=f"big-lama could not be fetched .*404.*{by_hand}"):
        load_network("big-lama")
    assert files(cache) == []
    (cache / "big-lama.zip").write_bytes(host.content)
    load_network("big-lama", device="cpu")
    assert files(cache) == ["big-lama.safetensors"] and len(host.asked) == 1


def test_another_file_put_there_by_hand_is_named_and_left(host, cache, big_lama):
    cache.mkdir()
    (cache / "big-lama.zip").write_bytes(b"something else")
    with pytest.raises(ValueError, match="big-lama.zip is not the published file: 14 bytes with the sha256"):
        load_network("big-lama")
    assert files(cache) == ["big-lama.zip"] and not host.asked


def test_nobody_listens(cache, monkeypatch):
    published_at(monkeypatch, "aot-gan", Source("http://127.0.0.1:9/weights.bin", "0" * 64))
    with pytest.raises(ConnectionError, match="aot-gan could not be fetched .*refused.* there is mini-lama"):
        load_network("aot-gan", progress=False)


def test_a_slow_host_is_waited_for_and_a_silent_one_is_not(host, cache, big_lama, monkeypatch, capsys):
    monkeypatch.setattr(published, "TIMEOUT_SECONDS", 0.3)
    host.pause = 0.05
    host.ends_after, host.stalls = 300_000, True
    with pytest.raises(ConnectionError, match="timed out"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []
    host.ends_after, host.stalls = None, False
    published_generator("big-lama")
    assert files(cache) == ["big-lama.safetensors"]
    assert re.search(r"big-lama\.zip: 100%.*B/s", capsys.readouterr().err)


def test_the_next_source_is_tried(host, cache, big_lama, tmp_path, monkeypatch):
    gone = Source("http://127.0.0.1:9/big-lama.zip", "0" * 64)
    published_at(monkeypatch, "big-lama", gone, big_lama)
    assert published_generator("big-lama", progress=False).is_file()


@pytest.mark.parametrize("member", ["", "big-lama/models/best.ckpt"])
def test_a_file_that_is_as_published_but_no_generator_leaves_nothing_behind(host, cache, tmp_path, monkeypatch, member):
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.write(tmp_path / "other.ckpt", "elsewhere.ckpt")
    host.content = (tmp_path / ("other.zip" if member else "other.ckpt")).read_bytes()
    published_at(monkeypatch, "big-lama", Source(f"{host.url}/weights.bin", digest(host.content), member))
    with pytest.raises(ValueError, match="what was fetched from .* cannot be used"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []


@pytest.mark.parametrize("place", ["/proc/nowhere", "file", "file/within", "x" * 300])
def test_a_cache_that_cannot_be_used_is_named_before_anything_is_fetched(place, host, cache, big_lama, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / place))
    with pytest.raises(OSError, match=f"REFINE_CACHE is '.*{place}', where big-lama cannot be kept .*; expected a folder"):
        load_network("big-lama", progress=False)
    assert not host.asked and (tmp_path / "file").read_text() == "mine"


def test_a_cache_that_is_full_is_named_and_no_other_source_is_tried(host, cache, big_lama, monkeypatch):
    resource = pytest.importorskip("resource")
    published_at(monkeypatch, "big-lama", big_lama, Source("http://127.0.0.1:9/big-lama.zip", "0" * 64))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, before[1])
    )  # Python ignores the signal: a write fails, as on a full disk
    try:
        with pytest.raises(OSError, match=f"REFINE_CACHE is '{cache}', where big-lama cannot be kept .File too large"):
            published_generator("big-lama", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []


def test_the_cache_may_be_named_from_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("REFINE_CACHE", "~/mine")
    assert published.cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("REFINE_CACHE", "")
    assert published.cache_folder() != tmp_path


def test_a_link_in_an_archive_leads_nowhere_and_nothing_else_is_unpacked(host, cache, tmp_path, monkeypatch):
    link = zipfile.ZipInfo("models/best.ckpt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr(link, str(TINY / "models" / "best.ckpt"))
        archive.writestr("../../evil", "evil")
    host.content = (tmp_path / "other.zip").read_bytes()
    published_at(monkeypatch, "big-lama", Source(f"{host.url}/other.zip", digest(host.content), "models/best.ckpt"))
    with pytest.raises(ValueError, match="what was fetched from .* cannot be used: .*best.ckpt is not a whole file of weights"):
        published_generator("big-lama", progress=False)
    assert files(cache) == [] and not list(tmp_path.rglob("evil"))


def test_two_at_once_fetch_it_once(host, cache, big_lama):
    host.pause = 0.01
    threads = [threading.Thread(target=published_generator, args=("big-lama", False)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(cache) == ["big-lama.safetensors"] and len(host.asked) == 1


def test_aot_gan_comes_as_a_plain_state_and_knows_its_convention(host, cache, tmp_path, monkeypatch):
    network = fill_by_formula(AOTGenerator(channels=32, n_blocks=2)).float()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    host.content = (tmp_path / "pytorch_model.bin").read_bytes()
    published_at(monkeypatch, "aot-gan", Source(f"{host.url}/pytorch_model.bin", digest(host.content)))
    model = load_network("aot-gan", device="cpu", progress=False)
    assert (model.hole_value, model.value_range, model.multiple) == (1.0, (-1.0, 1.0), 4)
    image, mask = picture(48, 48, dtype=torch.float32)
    assert torch.equal(model(image, mask), split_network(network)(image, mask))


def test_an_address_may_have_moved_and_have_a_query(host, cache, big_lama, monkeypatch):
    published_at(
        monkeypatch, "big-lama", Source(f"{host.url}/moved/big-lama.zip?download=true", big_lama.sha256, big_lama.member)
    )
    published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.safetensors"]


class UNet(nn.Module):
    """A network that is no list of layers, and that says what it wants to see and where it is cut."""

    hole_value, value_range, multiple, first_block = 0.5, (-1.0, 1.0), 2, "inner"

    def __init__(self, channels):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(4, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.ConvTranspose2d(2 * channels, 3, 2, 2)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        return torch.tanh(self.head(torch.cat([self.inner(y), y], dim=1)))


def test_a_new_kind_of_network_takes_one_registration(host, cache, tmp_path, monkeypatch):
    """Here one whose weights come in two files, and that is cut by name."""
    network = UNet(6)
    for part in ("inner", "outer"):
        state = {name: t for name, t in network.state_dict().items() if name.startswith("inner") == (part == "inner")}
        torch.save({name.removeprefix("inner."): t for name, t in state.items()}, tmp_path / f"{part}.pth")
        host.contents[f"/{part}.pth"] = (tmp_path / f"{part}.pth").read_bytes()
    inner, outer = (Source(f"{host.url}{path}", digest(content)) for path, content in host.contents.items())
    inner = replace(inner, prefix="inner.")
    weights = {"tiny-unet": Weights(((inner,), (Source("http://127.0.0.1:9/outer.pth", "0" * 64), outer)), smallest_scale=48)}
    monkeypatch.setattr("refine_lib.networks.registry.ARCHITECTURES", [*ARCHITECTURES])
    monkeypatch.setitem(WEIGHTS, "tiny-unet", None)  # so that it goes again
    register(Architecture("U-Net", UNet, "stem.weight", lambda state: {"channels": width(state, "stem.weight")}, weights))

    model = load_network("tiny-unet", "cpu", progress=False)
    assert (model.at, model.hole_value, model.value_range, model.multiple) == (("inner",), 0.5, (-1.0, 1.0), 2)
    image, mask = picture(32, 36, dtype=torch.float32)
    assert torch.equal(model(image, mask), split_network(network)(image, mask))
    assert len(model.front(image, mask)) == 1 and files(cache) == ["tiny-unet.safetensors"]
    assert settings_for("tiny-unet") == {"smallest_scale": 48, "lr": 0.002}
    with pytest.raises(
        ValueError,
        match="does not hold a LaMa, AOT-GAN, MAT, ZITS, latent diffusion or U-Net generator: it has no .* and no stem.weight",
    ):
        load_network(tmp_path / "inner.pth")


def test_the_table_names_checks_and_files():
    published = {name: weights for name, weights in WEIGHTS.items() if weights.files}
    assert set(published) >= {"big-lama", "lama-fourier", "aot-gan", "mat", "zits", "latent-diffusion"} and set(WEIGHTS) - set(
        published
    ) == set(EMBEDDED)
    for source in (source for weights in published.values() for sources in weights.files for source in sources):
        assert source.url.startswith("https://") and "." in source.name
        assert len(bytes.fromhex(source.sha256 or source.md5)) == (32 if source.sha256 else 16)


def test_a_name_is_no_path(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "big-lama")
    published_at(monkeypatch, "big-lama", Source("http://127.0.0.1:9/big-lama.zip", "0" * 64))
    assert sum(p.numel() for p in load_network("./big-lama", device="cpu").parameters()) < 1e6
    with pytest.raises(ConnectionError):
        load_network("big-lama", progress=False)


def test_each_network_has_its_settings(tmp_path):
    assert settings_for("mini-lama") == {"smallest_scale": 64, "lr": 0.005}
    assert settings_for("big-lama") == settings_for(tmp_path) == {"smallest_scale": 512, "lr": 0.002}
    save_generator(LamaGenerator(ngf=4, n_blocks=1), tmp_path / "mine.safetensors")
    assert settings_for(tmp_path / "mine.safetensors")["smallest_scale"] == 512


def test_of_a_file_known_by_its_md5_the_first_sha256_is_kept_and_compared_from_then_on(host, cache, big_lama, monkeypatch):
    md5 = hashlib.md5(host.content).hexdigest()
    published_at(monkeypatch, "big-lama", replace(big_lama, sha256="", md5=md5))
    published_generator("big-lama", progress=False)
    with safe_open(cache / "big-lama.safetensors", framework="pt") as file:
        assert file.metadata()["sha256"] == digest(host.content)
    assert (cache / "big-lama.zip.sha256").read_text() == digest(host.content)
    (cache / "big-lama.safetensors").unlink()
    published_generator("big-lama", progress=False)
    (cache / "big-lama.safetensors").unlink()
    (cache / "big-lama.zip.sha256").write_text("0" * 64)  # as if the first had been another file of the same md5
    with pytest.raises(ValueError, match=f"is not the published file: .* sha256 {digest(host.content)}; expected 000"):
        published_generator("big-lama", progress=False)
    (cache / "big-lama.zip.sha256").unlink()
    host.content = host.content[:-1]
    with pytest.raises(ValueError, match=f"is not the published file: .* md5 .*; expected {md5}"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []
