"""The job of a command: which photo is filled with which mask into which file, and what became of each."""

import os
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

from tqdm.auto import tqdm

from refine_lib.photos.files import LeftOut, check_output
from refine_lib.photos.formats import ENDINGS, FORMATS
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.opened import READERS
from refine_lib.photos.report import kept_rows, row, table, write_report
from refine_lib.refine import NothingToRefine

MASK_ENDINGS = (*(suffix for format in FORMATS for suffix in format.suffixes), ".npy")
NUMBERED = re.compile(r"(.+)_mask\d+", re.DOTALL)  # the names of one photo's several masks, as LaMa has them
# Endings of pictures that are reported and not passed over, unless they are taken.
NOT_TAKEN = ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jxl .mpo .pbm .pgm .pnm .ppm .psb .psd .svg .tga".split()
RAW = ".3fr .arw .cr2 .cr3 .dng .erf .iiq .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
INTERRUPTED = 130  # the exit code that shells know for Ctrl-C


@dataclass(frozen=True)
class Job:
    """A photo to be filled; without a mask, what was erased from it.

    ``fault`` is what is wrong with it already, in words, or else empty. ``of_several`` says that the photo has further masks.
    """

    photo: Path
    mask: Path | None
    output: Path
    fault: str = ""
    of_several: bool = False

    @property
    def name(self) -> str:
        """What it is called on the console."""
        return self.mask.name if self.mask and self.of_several else self.photo.name

    def is_done(self, overwrite: bool) -> bool:
        """Whether its result is there and stays."""
        return self.output.exists() and not overwrite


def plan(photo: Path, mask: Path | None, output: Path, overwrite: bool = False) -> list[Job]:
    """The jobs for a photo, or for each photo in a folder, by name.

    In a folder of masks a photo ``NAME.*`` has ``NAME.*`` or ``NAME_mask.*``, and its result has the photo's name; or it has
    ``NAME_mask001.*`` and so on, a job each, with the result ``NAME_mask001.png``.

    Raises:
        OSError, ValueError: where the paths do not go together.
    """
    for name, path in (("PHOTO", photo), ("MASK", mask)):
        if path and not path.exists():
            raise FileNotFoundError(f"{name} is {str(path)!r}, which is not there; expected a picture or a folder")
    if photo.is_dir():
        return _plan_folder(photo, mask, output)
    if mask and mask.is_dir():
        raise ValueError(f"MASK is the folder {str(mask)!r} and PHOTO one photo; expected one mask")
    check_output(output, overwrite, filter(None, (photo, mask)))
    return [Job(photo, mask, output)]


def _plan_folder(folder, mask, output):
    if os.path.lexists(output) and not output.is_dir():
        raise ValueError(f"OUT is the file {str(output)!r} and PHOTO a folder; expected a folder, which is made if need be")
    mask_is = mask.resolve() if mask else None
    if output.resolve() in (folder.resolve(), mask_is):
        raise ValueError(f"OUT is {str(output)!r}, the folder of the photos or masks; expected another one, so that they stay")
    photos = [p for p in _pictures(folder, (*ENDINGS, *NOT_TAKEN, *RAW)) if p.resolve() != mask_is]
    taken = {p.stem for p in photos if not _not_taken(p)}
    photos = [p for p in photos if not _not_taken(p) or p.stem not in taken]  # a raw file beside its JPEG is passed over
    masks = _pictures(mask, MASK_ENDINGS) if mask and mask.is_dir() else None
    if masks and mask_is == folder.resolve():
        masks = [m for m in masks if m.stem.endswith("_mask") or NUMBERED.fullmatch(m.stem)]
        beside = set(masks)
        photos = [p for p in photos if p not in beside]
    if all(_not_taken(p) for p in photos):
        raise ValueError(f"PHOTO is {str(folder)!r}, which holds no photo; expected files that end in {', '.join(ENDINGS)}")
    if masks is None:
        return [Job(p, mask, output / p.name, _not_taken(p)) for p in photos]
    of = _by_photo(masks, {_plain(p) for p in photos})
    jobs = [job for p in photos for job in _jobs(p, of.get(_plain(p), []), mask, output)]
    first = {job.output: job for job in reversed(jobs)}
    same = "has the result {0.output.name}, as {1.photo.name} with {1.mask.name} has; rename one"
    return [j if first[j.output] is j or j.fault else replace(j, fault=same.format(j, first[j.output])) for j in jobs]


def _plain(path):
    """The name of a file without ending. Of two ways to write an accent one system takes this, another that."""
    return normalize("NFC", path.stem)


def _by_photo(masks, photos):
    """The masks of each photo, by names without endings."""
    of = {}
    for mask in masks:
        name = _plain(mask)
        numbered = None if name in photos else NUMBERED.fullmatch(name)
        for photo in {numbered[1]} if numbered else {name, name.removesuffix("_mask")}:
            of.setdefault(photo, []).append(mask)
    return of


def _jobs(photo, masks, folder, output):
    """The jobs for a photo of a folder, with its own masks: one, or several that are numbered."""
    numbered = [m for m in masks if _plain(m) not in (_plain(photo), f"{_plain(photo)}_mask")]
    own, fault = [m for m in masks if m not in numbered], _not_taken(photo)
    if not fault and (len(own) > 1 or not masks):
        have = ", ".join(m.name for m in own) or "none"
        fault = f"expected one mask in {folder}, {photo.stem}.* or {photo.stem}_mask.*; there is {have}"
    if fault:
        return [Job(photo, None, output / photo.name, fault)]
    several = [Job(photo, m, output / f"{m.stem}.png", of_several=True) for m in numbered]
    return [*(Job(photo, m, output / photo.name) for m in own), *several]


def checked(jobs: list[Job], overwrite: bool) -> list[Job]:
    """The jobs, each with a fault where its result cannot be written, or would replace a photo or a mask of any of them."""
    sources = {_identity(source): source for job in jobs for source in (job.photo, job.mask) if source}
    return [replace(j, fault=j.fault or _unwritable(j, overwrite, sources)) for j in jobs]


def _identity(path):
    """What a file is known by, whatever name or link leads to it. None where there is no file."""
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _unwritable(job, overwrite, sources):
    """Why a job's result cannot be written, in words. They are empty where it can, or where it is there and stays."""
    try:
        if not job.is_done(overwrite):
            same = sources.get(_identity(job.output))  # one alone: to compare all with all takes minutes in a large folder
            check_output(job.output, overwrite, [same] if same else [])
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _not_taken(photo):
    """Why a picture is not taken, by its ending, in words. They are empty where it is taken."""
    ending = photo.suffix.lower()
    if ending in ENDINGS:
        return ""
    first = "develop it" if ending in RAW else "save a copy as one of these"
    if ending in READERS:
        first = f"{READERS[ending][1]}, or {first}"
    return f"is a picture that ends in {ending}; expected {', '.join(ENDINGS)}: {first} first"


def _pictures(folder, endings):
    """The files of a folder with such an ending, sorted by name, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and p.is_file() and not p.name.startswith("."))


def run(jobs: list[Job], model: Any, overwrite: bool, quiet: bool, report: Path | None = None, **settings: Any) -> int:
    """Fills the photos, one after the other, and says what became of each. What cannot be filled does not stop the others.

    Args:
        report: a CSV file, which is written at the end or at an interruption, with the ``COLUMNS`` of the module ``report``.
            One that is there already keeps its rows of photos that are filled already.

    Returns:
        The exit code.
    """
    done: set[tuple[int, int] | None] = set()
    counts, rows = {"filled": 0, "there already": 0, "failed": 0, "stopped": 0}, []
    kept = kept_rows(report) if report else None
    earlier = {output: row for output, row in (kept or {}).items() if row["state"] == "filled"}
    shown = not quiet and sys.stderr.isatty()  # a bar in a file is a heap of lines
    with tqdm(total=len(jobs), desc="photos", unit="photo", disable=not shown or len(jobs) == 1) as bar:
        for job in jobs:
            filled = None
            try:
                same = not job.fault and job.output.exists() and _identity(job.output) in done
                if same:  # where names differ by their case alone
                    what, words = "failed", f"output is {str(job.output)!r}, which is another photo's result; rename one photo"
                else:
                    what, words, filled = _fill(job, model, overwrite, shown, settings)
            except KeyboardInterrupt:
                what, words = "stopped", "interrupted before there was anything to keep"
            counts[what] += 1
            told = row(job, what, filled.message if filled else words, filled)
            rows.append(told | earlier.get(told["output"], {}) if what == "there already" else told)
            if what == "failed" or not quiet:
                tqdm.write(f"{job.name}: {words}", file=sys.stderr if what == "failed" else sys.stdout)
            if what == "stopped":
                break
            done |= {_identity(job.output)} if what == "filled" else set()
            bar.update()
    stopped, failed = counts.pop("stopped"), counts["failed"]
    if not quiet and len(jobs) > 1:
        print(table(rows), ", ".join(f"{count} {what}" for what, count in counts.items()), sep="\n")
    if report:
        try:
            write_report(rows, report, overwrite or kept is not None)
        except OSError as error:
            print(f"report is {str(report)!r}, which could not be written: {error}", file=sys.stderr)
            failed += 1
    if stopped and len(jobs) > 1:
        print("Interrupted. The same command goes on where it was: what is there already is passed over.", file=sys.stderr)
    return INTERRUPTED if stopped else min(failed, 1)


def _fill(job, model, overwrite, progress, settings):
    """Fills a photo. Returns what became of it, as a key of ``counts`` in ``run``, a sentence, and the filled photo or None."""
    if job.fault:
        return "failed", job.fault, None
    if job.is_done(overwrite):
        return "there already", f"{job.output} is there already", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingToRefine)  # the message says it, too
            warnings.simplefilter("ignore", LeftOut)
            photo = inpaint_photo(job.photo, job.mask, job.output, model, overwrite=overwrite, progress=progress, **settings)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, FileExistsError) and job.is_done(overwrite):
            return "there already", f"{job.output} came meanwhile", None
        return "failed", (str(error).splitlines() or [type(error).__name__])[0], None
    return ("stopped" if photo.stopped else "filled"), f"wrote {photo.path}, {photo.in_short}", photo
