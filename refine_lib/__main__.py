"""Fills the holes in photos: ``python -m refine_lib photo.jpg mask.png -o filled.jpg``, or a folder of them."""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from refine_lib.checks import LOSSES, OPTIMIZERS, SPEEDS
from refine_lib.networks import load_network, settings_for
from refine_lib.photos.files import ENDINGS, LeftOut, check_output
from refine_lib.photos.inpaint import check_request, inpaint_photo
from refine_lib.photos.windows import WINDOWS
from refine_lib.refine import NothingToRefine

MASK_ENDINGS = (*ENDINGS, ".bmp", ".gif", ".pbm", ".pgm", ".ppm")
NOT_TAKEN = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl", ".mpo", ".pbm", ".pgm", ".pnm", ".ppm")
NOT_TAKEN += (".psb", ".psd", ".svg", ".tga")
RAW = (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2")
RAW += (".rwl", ".sr2", ".srf", ".srw", ".x3f")
INTERRUPTED = 130  # the exit code that shells know for Ctrl-C

ABOUT = """\
Takes something out of a photo and fills the hole, at full size. The mask is a picture of the photo's size, white
where the hole is and black elsewhere; any drawing program makes one. All else in the photo stays as it is, its EXIF
data and its color profile too."""
EXAMPLES = """\
examples:
  python -m refine_lib beach.jpg beach_mask.png -o filled.jpg
  python -m refine_lib beach.tif mask.png -o filled.tif --dilation 8 --soft-edge 6
  python -m refine_lib photos masks -o filled            each photos/NAME.* with masks/NAME.* or masks/NAME_mask.*
  python -m refine_lib photos watermark.png -o filled    one mask for all photos

networks:
  big-lama    made for photos; trained by others on photos of places. It is fetched once, some 400 MB.
  mini-lama   a toy that comes along, to try a command with: it has seen nothing but drawn scenes.
"""


@dataclass(frozen=True)
class Job:
    """A photo to be filled; what is wrong with it already, in words, else empty."""

    photo: Path
    mask: Path | None
    output: Path
    fault: str = ""


def plan(photo, mask, output, overwrite=False):
    """The jobs for a photo, or for each photo in a folder, by name.

    Raises:
        OSError, ValueError: where the paths do not go together.
    """
    for name, path in (("PHOTO", photo), ("MASK", mask)):
        if not path.exists():
            raise FileNotFoundError(f"{name} is {str(path)!r}, which is not there; expected a picture or a folder")
    if photo.is_dir():
        return _plan_folder(photo, mask, output)
    if mask.is_dir():
        raise ValueError(f"MASK is the folder {str(mask)!r} and PHOTO one photo; expected one mask")
    if output.resolve() in (photo.resolve(), mask.resolve()):
        raise ValueError(f"OUT is {str(output)!r}, the photo or its mask; expected another name, so that they stay")
    check_output(output, overwrite)
    return [Job(photo, mask, output)]


def _plan_folder(folder, mask, output):
    if output.exists() and not output.is_dir():
        raise ValueError(f"OUT is the file {str(output)!r} and PHOTO a folder; expected a folder, which is made if need be")
    if output.resolve() in (folder.resolve(), mask.resolve()):
        raise ValueError(f"OUT is {str(output)!r}, the folder of the photos or masks; expected another one, so that they stay")
    photos = [p for p in _pictures(folder, (*ENDINGS, *NOT_TAKEN, *RAW)) if p.resolve() != mask.resolve()]
    taken = {p.stem for p in photos if not _not_taken(p)}
    photos = [p for p in photos if not _not_taken(p) or p.stem not in taken]  # a raw file beside its JPEG is passed over
    if not mask.is_dir():
        jobs = [Job(p, mask, output / p.name, _not_taken(p)) for p in photos]
    else:
        masks = _pictures(mask, MASK_ENDINGS)
        if mask.resolve() == folder.resolve():
            masks = [m for m in masks if m.stem.endswith("_mask")]
            photos = [p for p in photos if p not in masks]
        jobs = [_with_mask(p, masks, mask, output / p.name) for p in photos]
    if all(_not_taken(p) for p in photos):
        raise ValueError(f"PHOTO is {str(folder)!r}, which holds no photo; expected files that end in {', '.join(ENDINGS)}")
    return jobs


def _not_taken(photo):
    """Why a picture is not taken, by its ending, in words; empty where it is."""
    ending = photo.suffix.lower()
    if ending in ENDINGS:
        return ""
    first = "develop it" if ending in RAW else "save a copy as one of these"
    return f"is a picture that ends in {ending}; expected {', '.join(ENDINGS)}: {first} first"


def _with_mask(photo, masks, folder, output):
    if fault := _not_taken(photo):
        return Job(photo, None, output, fault)
    names = photo.stem, f"{photo.stem}_mask"
    found = [m for m in masks if m.stem in names]
    if len(found) == 1:
        return Job(photo, found[0], output)
    have = ", ".join(m.name for m in found) or "none"
    return Job(photo, None, output, f"expected one mask in {folder}, {names[0]}.* or {names[1]}.*; there is {have}")


def _pictures(folder, endings):
    """The files of a folder with such an ending, by name; hidden ones are passed over."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and p.is_file() and not p.name.startswith("."))


def run(jobs, model, overwrite, quiet, **settings):
    """Fills the photos, one after the other, and says what became of each. What cannot be filled does not stop the others.

    Returns:
        The exit code.
    """
    counts = {"filled": 0, "there already": 0, "failed": 0}
    stopped = False
    with tqdm(total=len(jobs), desc="photos", unit="photo", disable=quiet or len(jobs) == 1) as bar:
        for job in jobs:
            try:
                what, words = _fill(job, model, overwrite, not quiet, settings)
            except KeyboardInterrupt:
                what, words = "stopped", "interrupted before there was anything to keep"
            stopped = what == "stopped"
            if what == "failed" or not quiet:
                tqdm.write(f"{job.photo.name}: {words}", file=sys.stderr if what == "failed" else sys.stdout)
            if stopped:
                break
            counts[what] += 1
            bar.update()
    if not quiet and len(jobs) > 1:
        print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if stopped and len(jobs) > 1:
        print("Interrupted. The same command goes on where it was: what is there already is passed over.", file=sys.stderr)
    if stopped:
        return INTERRUPTED
    return 1 if counts["failed"] else 0


def _fill(job, model, overwrite, progress, settings):
    """Fills a photo; what became of it, as one word or two, and as a sentence."""
    if job.fault:
        return "failed", job.fault
    if job.output.exists() and not overwrite:
        return "there already", f"{job.output} is there already"
    try:
        with warnings.catch_warnings():
            for said in (NothingToRefine, LeftOut):  # by the message, too
                warnings.simplefilter("ignore", said)
            photo = inpaint_photo(job.photo, job.mask, job.output, model, overwrite=overwrite, progress=progress, **settings)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        return "failed", (str(error).splitlines() or [type(error).__name__])[0]
    n = len(photo.windows)
    how = f"{photo.seconds:.1f} s" + f", {n} windows" * (n > 1) + f". {photo.message}" * bool(photo.message)
    return ("stopped" if photo.stopped else "filled"), f"wrote {photo.path}, {how}"


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m refine_lib",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def number(group, name, kind, default, unit, words):
        group.add_argument(name, type=kind, default=default, metavar=unit, help=f"{words} (default: %(default)s)")

    parser.add_argument("photo", type=Path, metavar="PHOTO", help="JPEG, PNG, TIFF or WebP, or a folder of them")
    parser.add_argument(
        "mask", type=Path, metavar="MASK", help="white where the hole is; for a folder a folder, or one for all"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", required=True, help="a new file, or another folder")
    parser.add_argument("--network", default="big-lama", help="a name, see below, or a file of weights (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest there is)")
    parser.add_argument("--overwrite", action="store_true", help="make anew what is there already")
    parser.add_argument("--quiet", action="store_true", help="say nothing but what went wrong")

    hole = parser.add_argument_group("the hole")
    number(hole, "--dilation", int, 0, "PX", "by which the hole is grown, to take a rim or a shadow in")
    number(hole, "--soft-edge", float, 0, "PX", "inside the hole over which the seam is blended")
    number(hole, "--threshold", float, 0.5, "SHARE", "of white: what is brighter in MASK is hole")

    large = parser.add_argument_group("large photos")
    large.add_argument(
        "--windows", choices=WINDOWS, default="auto", help="compute parts, around the holes (default: if need be)"
    )
    number(large, "--context", float, 0.5, "SHARE", "of a hole's longer side: what a part shows around it")

    method = parser.add_argument_group("the method")
    number(method, "--n-iters", int, 15, "N", "steps at each size; 0 is fast and plain")
    method.add_argument("--smallest-scale", type=int, metavar="PX", help="that the network was trained at (default: its own)")
    method.add_argument("--lr", type=float, help="how far a step goes (default: the network's own)")
    number(method, "--erosion", int, 15, "PX", "of the hole's rim that do not count in a step")
    method.add_argument(
        "--loss", choices=LOSSES, default="paper", help="code: that of the authors' code (default: %(default)s)"
    )
    method.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="adam", help="polyak needs a third of the steps (default: %(default)s)"
    )
    method.add_argument("--speed", choices=SPEEDS, default="auto", help="exact: the network as it is (default: %(default)s)")
    return parser


def main(argv=None):
    """The command line; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    settings = {key: getattr(args, key) for key in ("threshold", "dilation", "soft_edge", "windows", "context")}
    settings |= settings_for(args.network)
    settings |= {key: getattr(args, key) for key in ("n_iters", "erosion", "loss", "optimizer", "speed")}
    settings |= {key: getattr(args, key) for key in ("smallest_scale", "lr") if getattr(args, key) is not None}
    try:
        check_request(**settings)
        jobs = plan(args.photo, args.mask, args.output, args.overwrite)
        model = load_network(args.network, args.device, progress=not args.quiet)
        if args.photo.is_dir():
            args.output.mkdir(parents=True, exist_ok=True)
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(jobs, model, args.overwrite, args.quiet, **settings)


if __name__ == "__main__":
    sys.exit(main())
