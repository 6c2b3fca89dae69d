"""Networks that others trained: fetched from a server on this machine, checked, converted and kept."""

import hashlib
import shutil
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from conftest import TESTS, picture
from formula import fill_by_formula
from safetensors import safe_open

from refine_lib import AOTGenerator, LamaGenerator, load_network, split_network
from refine_lib.networks import published, settings_for
from refine_lib.networks.published import PUBLISHED, Source, fetch, published_generator
from refine_lib.networks.registry import save_generator

TINY = TESTS / "known_answers" / "tiny-lama"


@pytest.fixture
def host():
    """A server that plays the host of weights; a test says how it behaves."""
    host = SimpleNamespace(content=b"", status=200, has_ranges=True, ends_after=None, pause=0.0, stalls=False, asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                return self.end_headers()
            host.asked.append(self.headers.get("Range"))
            if host.status != 200:
                return self.send_error(host.status)
            begin = 0
            if host.has_ranges and self.headers.get("Range"):
                begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                if begin >= len(host.content):
                    return self.send_error(416)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(host.content) - 1}/{len(host.content)}")
            self.send_header("Content-Length", str(len(host.content) - begin))
            self.end_headers()
            for start in range(begin, min(len(host.content), host.ends_after or len(host.content)), 50_000):
                time.sleep(host.pause)
                self.wfile.write(host.content[start : min(start + 50_000, host.ends_after or len(host.content))])
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
    monkeypatch.setitem(PUBLISHED, "big-lama", (source,))
    return source


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


@pytest.mark.parametrize("has_ranges", [True, False])
def test_an_interrupted_file_goes_on_where_it_was(host, cache, big_lama, has_ranges):
    host.ends_after = 300_000
    with pytest.raises(
        ConnectionError, match=r"it ended after 300,000 of [\d,]+ bytes.* Run again, and it goes on where it was"
    ):
        published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.zip.part"] and (cache / "big-lama.zip.part").stat().st_size == 300_000
    host.ends_after, host.has_ranges = None, has_ranges
    published_generator("big-lama", progress=False)
    assert host.asked == [None, "bytes=300000-"]
    assert files(cache) == ["big-lama.safetensors"]


def test_a_page_to_log_in_does_not_cost_what_has_come(host, cache, big_lama):
    cache.mkdir()
    (cache / "big-lama.zip.part").write_bytes(host.content[:300_000])
    host.content, host.has_ranges = b"<html>who are you?</html>", False
    with pytest.raises(ConnectionError, match="answers with something else than the rest of the file.* goes on where it was"):
        published_generator("big-lama", progress=False)
    assert (cache / "big-lama.zip.part").stat().st_size == 300_000


def test_a_keyboard_interrupt_keeps_what_has_come(host, cache, big_lama, monkeypatch):
    class Interrupted(published.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(published, "tqdm", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.zip.part"]
    monkeypatch.undo()


def test_a_file_that_was_whole_but_not_yet_checked_is_taken(host, cache, big_lama):
    cache.mkdir()
    (cache / "big-lama.zip.part").write_bytes(host.content)
    published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.safetensors"]


def test_a_corrupted_file_is_never_read_and_never_kept(host, cache, big_lama, monkeypatch):
    host.content = host.content[:200_000] + b"?" + host.content[200_001:]
    monkeypatch.setattr(published, "load_generator", lambda path: pytest.fail("it was read"))
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
    monkeypatch.setitem(PUBLISHED, "aot-gan", (Source("http://127.0.0.1:9/weights.bin", "0" * 64),))
    with pytest.raises(ConnectionError, match="aot-gan could not be fetched .*refused"):
        load_network("aot-gan", progress=False)


def test_a_slow_host_is_waited_for_and_a_silent_one_is_not(host, cache, big_lama, monkeypatch, capsys):
    monkeypatch.setattr(published, "TIMEOUT", 0.3)
    host.pause = 0.05
    host.ends_after, host.stalls = 300_000, True
    with pytest.raises(ConnectionError, match="timed out"):
        published_generator("big-lama", progress=False)
    assert files(cache) == ["big-lama.zip.part"]
    host.ends_after, host.stalls = None, False
    published_generator("big-lama")
    assert files(cache) == ["big-lama.safetensors"]
    shown = capsys.readouterr().err
    assert "big-lama.zip: 100%" in shown and "kB/s" in shown


def test_the_next_source_is_tried(host, cache, big_lama, tmp_path, monkeypatch):
    gone = Source("http://127.0.0.1:9/big-lama.zip", "0" * 64)
    monkeypatch.setitem(PUBLISHED, "big-lama", (gone, big_lama))
    assert published_generator("big-lama", progress=False).is_file()


@pytest.mark.parametrize("member", ["", "big-lama/models/best.ckpt"])
def test_a_file_that_is_as_published_but_no_generator_leaves_nothing_behind(host, cache, tmp_path, monkeypatch, member):
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.write(tmp_path / "other.ckpt", "elsewhere.ckpt")
    host.content = (tmp_path / ("other.zip" if member else "other.ckpt")).read_bytes()
    monkeypatch.setitem(PUBLISHED, "big-lama", (Source(f"{host.url}/weights.bin", digest(host.content), member),))
    with pytest.raises(ValueError, match="cannot be used, and was removed"):
        published_generator("big-lama", progress=False)
    assert files(cache) == []


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
    monkeypatch.setitem(PUBLISHED, "aot-gan", (Source(f"{host.url}/pytorch_model.bin", digest(host.content)),))
    model = load_network("aot-gan", device="cpu", progress=False)
    assert (model.hole_value, model.value_range, model.multiple) == (1.0, (-1.0, 1.0), 4)
    image, mask = picture(48, 48, dtype=torch.float32)
    assert torch.equal(model(image, mask), split_network(network)(image, mask))


def test_a_fetched_file_may_be_any(host, tmp_path):
    host.content = b"weights" * 100_000
    path = fetch(Source(f"{host.url}/a/b/thing.bin?download=true", digest(host.content)), tmp_path, progress=False)
    assert path == tmp_path / "thing.bin" and path.read_bytes() == host.content


def test_an_address_that_has_moved_goes_on_where_it_was(host, tmp_path):
    host.content = b"weights" * 100_000
    (tmp_path / "thing.bin.part").write_bytes(host.content[:1000])
    path = fetch(Source(f"{host.url}/moved/thing.bin", digest(host.content)), tmp_path, progress=False)
    assert path.read_bytes() == host.content and host.asked == ["bytes=1000-"]


def test_the_table_names_checks_and_files():
    assert set(PUBLISHED) == {"big-lama", "lama-fourier", "aot-gan"}
    for source in (source for sources in PUBLISHED.values() for source in sources):
        assert source.url.startswith("https://") and len(bytes.fromhex(source.sha256)) == 32 and "." in source.name


def test_a_name_is_no_path(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "big-lama")
    monkeypatch.setitem(PUBLISHED, "big-lama", (Source("http://127.0.0.1:9/big-lama.zip", "0" * 64),))
    assert sum(p.numel() for p in load_network("./big-lama", device="cpu").parameters()) < 1e6
    with pytest.raises(ConnectionError):
        load_network("big-lama", progress=False)


def test_each_network_has_its_settings(tmp_path):
    assert settings_for("mini-lama") == {"smallest_scale": 64, "lr": 0.005}
    assert settings_for("big-lama") == settings_for(tmp_path) == {"smallest_scale": 512, "lr": 0.002}
    save_generator(LamaGenerator(ngf=4, n_blocks=1), tmp_path / "mine.safetensors")
    assert settings_for(tmp_path / "mine.safetensors")["smallest_scale"] == 512
