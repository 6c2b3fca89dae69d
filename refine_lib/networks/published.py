"""Networks that others trained: their weights are fetched once, checked, and kept."""

import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import filelock
import platformdirs
import pooch
from tqdm.auto import tqdm

from refine_lib.networks.checkpoints import read_state
from refine_lib.networks.registry import WEIGHTS, Source, generator_of, save_generator

TIMEOUT_SECONDS = 30  # without a byte
PIECE_BYTES = 1 << 16
HUGGING_FACE = "https://huggingface.co"
EMBEDDED = "Without a download there is mini-lama, which comes with the package; it has never seen a photo."
# What leads around a wall between this machine and the web: a message names those that are set.
WAYS = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def cache_folder() -> Path:
    """Where fetched networks are kept: the environment variable ``REFINE_CACHE``, else the user's own cache."""
    return Path(os.path.expanduser(os.environ.get("REFINE_CACHE", "")) or platformdirs.user_cache_path("refine_lib"))


def published_generator(name: str, progress: bool = True) -> Path:
    """The ``.safetensors`` of a published network: from the cache, or fetched into it.

    Nothing is read before its sha256 is that of the table. Of a file whose publisher tells its md5 alone, that is looked at,
    and the sha256 of the first such file is kept for the next. Then the generator is kept, alone and in float32, and the files
    that it came in are removed. A file in the cache of Hugging Face's own programs is read there, and stays.

    These environment variables have their usual meaning: ``HF_ENDPOINT`` (a mirror of Hugging Face), ``HF_HUB_OFFLINE`` (1:
    nothing is fetched), ``HF_HOME`` and ``HF_HUB_CACHE`` (where that cache lies), ``HTTPS_PROXY`` and ``NO_PROXY``.

    Args:
        name: of ``WEIGHTS``.
        progress: whether to show a bar.

    Raises:
        ConnectionError: where no source can be reached. The message says which file to put where by hand.
        OSError: where the cache cannot be used, or is full.
        ValueError: where a file is not the published one, or does not hold a generator, or ``HF_ENDPOINT`` is no address.
    """
    folder = cache_folder()
    try:
        return _kept(name, folder, progress)
    except ConnectionError:
        raise
    except OSError as error:
        given = os.environ.get("REFINE_CACHE")
        place = f"REFINE_CACHE is {given!r}" if given else f"REFINE_CACHE is not set, which means {str(folder)!r}"
        wanted = "expected a folder, there or not, that can be written and has room for the network's files"
        raise OSError(f"{place}, where {name} cannot be kept ({error.strerror or error}); {wanted}") from error


def _kept(name, folder, progress):
    kept = folder / f"{name}.safetensors"
    if kept.is_file():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{name}.lock"), tempfile.TemporaryDirectory(dir=folder) as room:
        if kept.is_file():  # another process has fetched it meanwhile
            return kept
        found = [_first_that_comes(name, sources, Path(room), progress) for sources in WEIGHTS[name].files]
        urls = ", ".join(source.url for source, _ in found)
        sums = ", ".join(source.sha256 or _kept_sum(source, folder) for source, _ in found)
        state = {}
        try:
            for source, path in found:
                if source.member:
                    with zipfile.ZipFile(path) as archive:
                        path = archive.extract(source.member, room)
                state |= {source.prefix + name: tensor for name, tensor in read_state(path).items()}
            save_generator(generator_of(state), kept, source=urls, sha256=sums)
        except (KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:  # whole, but not what the table takes it for
            raise ValueError(f"what was fetched from {urls} cannot be used: {error}") from error
        for source, _ in found:
            (folder / source.name).unlink(missing_ok=True)  # where it was put there by hand
    return kept


def _first_that_comes(name, sources: Sequence[Source], room: Path, progress: bool) -> tuple[Source, Path]:
    """The first source whose file is there, put there by hand, or can be fetched; and the file."""
    errors = []
    for source in sources:
        try:
            return source, _fetch(source, room, progress)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:  # of this machine, as a full disk is, and not of a connection
                raise
            errors.append(error)
    reasons = "; ".join(f"{source.url}: {error}" for source, error in zip(sources, errors, strict=True))
    by_hand = f"put {sources[0].url} into the folder {room.parent}, as {sources[0].name}"
    others = any(isinstance(error, ValueError) and not isinstance(error, OSError) for error in errors)  # other files are there
    kind = ValueError if others else ConnectionError
    told = f"{name} could not be fetched ({reasons}). Run again; or {by_hand}. {_ways()} {EMBEDDED}"
    raise kind(told) from errors[0]


def _ways():
    """What the environment says of the way to the web, in words. A password in an address is not repeated."""
    given = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in WAYS}
    said = " and ".join(f"{name} is {re.sub('//[^/]*@', '//', value)!r}" for name, value in given.items() if value)
    if said:
        return f"{said}: is this right?"
    return "Behind a wall HF_ENDPOINT can name a mirror of Hugging Face, and HTTPS_PROXY a proxy."


def _in_hub_cache(source: Source) -> Path | None:
    """The file in the cache of Hugging Face's programs, of any revision; None where it is not there."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    hub = Path(os.path.expandvars(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))))
    repository, _, place = source.url.removeprefix(f"{HUGGING_FACE}/").partition("/resolve/")
    copies = hub.glob(f"models--{repository.replace('/', '--')}/snapshots/*/{place.partition('/')[2]}") if place else ()
    files = (path for path in copies if os.access(path, os.R_OK))
    return next((path for path in files if pooch.file_hash(path, alg="sha256") == source.sha256), None)


def _fetch(source: Source, room: Path, progress: bool) -> Path:
    """The file of a source, checked: the one beside the room or in the hub's cache, else fetched into the room."""
    path = room.parent / source.name
    if not path.is_file():
        if kept := _in_hub_cache(source):
            return kept
        path = room / source.name
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise ConnectionError("not asked")
        mirror = os.environ.get("HF_ENDPOINT") or HUGGING_FACE
        url = source.url.replace(HUGGING_FACE, mirror.rstrip("/"), 1)
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"HF_ENDPOINT is {mirror!r}; expected the address of a mirror, as https://example.org")
        with tqdm(total=1, unit="B", unit_scale=True, desc=source.name, disable=not progress) as bar:  # pooch sets the total
            hooks = {"response": lambda answer, **_: None if answer.ok else answer.close()}  # which pooch leaves open
            fetch = pooch.HTTPDownloader(bar, PIECE_BYTES, timeout=TIMEOUT_SECONDS, hooks=hooks)  # pyright: ignore[reportArgumentType]
            fetch(url, path, None)
    sums = {"sha256": source.sha256 or _kept_sum(source, room.parent), "md5": source.md5}
    for kind, wanted in sums.items():
        found = pooch.file_hash(path, alg=kind) if wanted else wanted
        if found != wanted:
            told = f"{path.stat().st_size:,} bytes with the {kind} {found}; expected {wanted}"
            raise ValueError(f"{path} is not the published file: {told}")
    if not sums["sha256"]:
        _place_of_sum(source, room.parent).write_text(pooch.file_hash(path, alg="sha256"))
    return path


def _place_of_sum(source, folder):
    return folder / f"{source.name}.sha256"


def _kept_sum(source, folder):
    """The sha256 of the file that was fetched here first; empty where none was."""
    place = _place_of_sum(source, folder)
    return place.read_text().strip() if place.is_file() else ""
