"""Networks that others trained: where their weights are, and how these are fetched once, checked, and kept."""

import os
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import filelock
import platformdirs
from tqdm.auto import tqdm

from refine_lib.networks.registry import load_generator, save_generator

TIMEOUT = 30  # seconds without a byte
PIECE = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file on the web that holds a network: its address, its content, and the file within where it is a ``.zip``."""

    url: str
    sha256: str
    member: str = ""

    @property
    def name(self):
        return Path(urlsplit(self.url).path).name


HUGGING_FACE, GITHUB = "https://huggingface.co", "https://github.com"
PUBLISHED = {
    "big-lama": (
        Source(
            f"{HUGGING_FACE}/smartywu/big-lama/resolve/05cb2be7f8dbe6ca7c6e78f4fc827a4b2baaa4a9/big-lama.zip",
            "f1b358ca24093b93a106183b98a3dea6e8ed09f3b43ea7251eb2c81e7b4575f6",
            "big-lama/models/best.ckpt",
        ),
        Source(
            f"{GITHUB}/Sanster/models/releases/download/add_big_lama/big-lama.pt",
            "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
        ),
    ),
    "lama-fourier": (
        Source(
            f"{HUGGING_FACE}/camenduru/big-lama/resolve/main/lama-fourier/models/best.ckpt",
            "b2456284b604786a88a38549432ddf2e73a5911f9868ea692b5122e89a5f1f54",
        ),
    ),
    "aot-gan": (
        Source(
            f"{HUGGING_FACE}/NimaBoscarino/aot-gan-places2/resolve/main/pytorch_model.bin",
            "bccbee30d45e8682abfa803f2c7b1268a637d5b9d7f5fb0048765ffd542e8843",
        ),
    ),
}


def cache_folder():
    """Where fetched networks are kept: the environment variable ``REFINE_CACHE``, else the user's own cache."""
    return Path(os.environ.get("REFINE_CACHE") or platformdirs.user_cache_path("refine_lib"))


def published_generator(name, progress=True):
    """The ``.safetensors`` of a published network: from the cache, or fetched into it.

    A file that was interrupted goes on where it was. Nothing is read before its sha256 is that of the table; then the generator
    is kept, alone and in float32, and the file that it came in is removed.

    Args:
        name: of ``PUBLISHED``.
        progress: whether to show a bar.

    Raises:
        ConnectionError: where no source can be reached. The message says which file to put where by hand.
        ValueError: where a file is not the published one, or does not hold a generator. It is removed.
    """
    folder = cache_folder()
    kept = folder / f"{name}.safetensors"
    if kept.is_file():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{name}.lock"):  # another process may be fetching the same
        if kept.is_file():
            return kept
        source, path = _first_that_comes(name, folder, progress)
        try:
            with _weights_in(path, source) as weights:
                save_generator(load_generator(weights), kept, source=source.url, sha256=source.sha256)
        except (KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:  # whole, but not what the table takes it for
            path.unlink()
            raise ValueError(f"what was fetched from {source.url} cannot be used, and was removed: {error}") from error
        path.unlink()
    return kept


def _first_that_comes(name, folder, progress):
    """A source of the network, and its file in the folder: one that was put there by hand, or the first that can be fetched."""
    sources = PUBLISHED[name]
    for source in sources:
        if (path := folder / source.name).is_file():
            _check(path, source)
            return source, path
    errors = []
    for source in sources:
        try:
            return source, fetch(source, folder, progress)
        except (OSError, ValueError) as error:
            errors.append(error)
    reasons = "; ".join(f"{source.url}: {error}" for source, error in zip(sources, errors, strict=True))
    by_hand = f"put {sources[0].url} into the folder {folder}, as {sources[0].name}"
    kind = ValueError if any(isinstance(error, ValueError) for error in errors) else ConnectionError
    begun = any((folder / f"{source.name}.part").exists() for source in sources)
    again = "Run again, and it goes on where it was" if begun else "Run again"
    raise kind(f"{name} could not be fetched ({reasons}). {again}; or {by_hand}") from errors[0]


def fetch(source, folder, progress=True):
    """Fetches a file into a folder, under its own name, once it is whole and checked; until then it is ``NAME.part``.

    Raises:
        OSError: where the address does not answer, or stops answering. What has come stays, and the next call goes on there.
        ValueError: where the file's sha256 is another. What has come is removed.
    """
    path = Path(folder) / source.name
    part = path.with_name(path.name + ".part")
    begun = part.stat().st_size if part.is_file() else 0
    request = Request(source.url, headers={"User-Agent": "refine_lib", **({"Range": f"bytes={begun}-"} if begun else {})})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
            if begun and not goes_on and int(answer.headers.get("Content-Length", 0)) <= begun:
                raise ConnectionError("it answers with something else than the rest of the file")  # as a page to log in
            _write(answer, part, begun if goes_on else 0, progress and source.name)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not begun:  # 416: nothing is left behind that place; the check tells whether it is whole
            raise
    except HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    try:
        _check(part, source)
    except ValueError:
        part.unlink()
        raise
    part.replace(path)
    return path


def _write(answer, part, begun, shown_as):
    left = answer.headers.get("Content-Length")
    total = None if left is None else begun + int(left)
    with (
        part.open("ab" if begun else "wb") as file,
        tqdm(total=total, initial=begun, unit="B", unit_scale=True, desc=shown_as or None, disable=not shown_as) as bar,
    ):
        while piece := answer.read1(PIECE):
            file.write(piece)
            bar.update(len(piece))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"it ended after {part.stat().st_size:,} of {total:,} bytes")


def _check(path, source):
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    if digest.hexdigest() != source.sha256:
        told = f"{path.stat().st_size:,} bytes with the sha256 {digest.hexdigest()}; expected {source.sha256}"
        raise ValueError(f"{path} is not the published file: {told}")


@contextmanager
def _weights_in(path, source):
    """The file with the weights: the path itself, or what it holds, unpacked beside it for as long as it is needed."""
    if not source.member:
        yield path
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, zipfile.ZipFile(path) as archive:
        yield Path(archive.extract(source.member, folder))
