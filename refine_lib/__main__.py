"""Takes something out of a photo and fills the hole, at full size. The mask is a picture of the photo's size, white
where the hole is and black elsewhere; any drawing program makes one. All else in the photo stays as it is, its EXIF
data and its color profile too.

examples:
  python -m refine_lib beach.jpg beach_mask.png -o filled.jpg
  python -m refine_lib beach.tif mask.png -o filled.tif --dilation 8 --soft-edge 6
  python -m refine_lib erased.png -o filled.png          no MASK: the hole is what was erased from the photo
  python -m refine_lib beach.jpg mask.png -o filled.jpg --guide small_and_filled.png
  python -m refine_lib beach.jpg mask.png -o filled.jpg --guide latent-diffusion --smallest-scale 256
  python -m refine_lib beach.jpg -o wide.jpg --extend 0 200 0 200
  python -m refine_lib photos masks -o filled            each photos/NAME.* with masks/NAME.* or masks/NAME_mask.*
  python -m refine_lib photos watermark.png -o filled    one mask for all photos
  python -m refine_lib photos photos -o filled           masks beside the photos, with names as above
  python -m refine_lib photos masks -o filled --report report.csv

several masks of a photo, as LaMa has them:
  NAME_mask001.png, NAME_mask002.png, ... are filled each by itself; the results are OUT/NAME_mask001.png and so on.

what a mask may be:
  white on black    a picture; what is gray is parted at --threshold. Gray of 0 and 1 is taken for black and white.
  black on white    with --invert
  drawn             in one bright color on transparent ground
  erased            from a copy of the photo, or from one color all over; without MASK, from PHOTO itself
  soft              with --soft-mask: from 0, where the photo stays, to 255, where it is wholly new
  MASK.npy          a NumPy array (H, W): bool, 0 and 1, uint8 up to 255, or fractions in [0, 1]

a photo that its EXIF data turn is shown upright; so is its mask. Ctrl-C keeps the latest picture as NAME.stopped.png.
A guide has PHOTO's proportions, with --extend those of the larger picture. Folders within a folder are not looked at.

report:
  The table at a folder's end and --report have for each photo what became of it, how much of it is hole in percent, how
  many levels it had, the loss of the largest refined level before and after (the mean over windows), seconds, and a note.
  The same command goes on with a report that is there: rows of photos that are filled already stay.

networks:
  big-lama    made for photos; trained by others on photos of places. It is fetched once, some 400 MB.
  latent-diffusion  fills from noise in 50 passes, and is not refined: minutes to hours without a GPU. As --guide it
              fills the smallest size, and big-lama brings that to full size. It is fetched once, some 1.6 GB.
  mini-lama   a toy that comes along, to try a command with: it has seen nothing but drawn scenes.
"""

import signal
import sys

ON_CTRL_C = signal.getsignal(signal.SIGINT)
if __name__ == "__main__" and ON_CTRL_C is signal.default_int_handler:
    # While all that follows is loaded Ctrl-C just ends it: what is interrupted there turns the exception into others.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import inspect
import os
import re
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any, cast

from refine_lib.checks import LOSSES, SPEEDS
from refine_lib.networks import load_network, settings_for
from refine_lib.networks.latent_diffusion import check_noise
from refine_lib.networks.registry import why_not_split
from refine_lib.optimizers import OPTIMIZERS, PRESETS
from refine_lib.photos.guides import is_network
from refine_lib.photos.inpaint import check_request, inpaint_photo
from refine_lib.photos.jobs import INTERRUPTED, checked, plan, run
from refine_lib.photos.opened import Patient, printable_streams
from refine_lib.photos.report import check_report
from refine_lib.photos.windows import WINDOWS

ABOUT, _, EXAMPLES = (__doc__ or "").partition("\n\n")  # of the help
BY_DEFAULT = " (default: %(default)s)"
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(inpaint_photo).parameters.items()}
# The options that are settings of inpaint_photo, by group: the setting, how argparse reads it, and the help.
PIXELS, SHARE, FLAG = {"type": int, "metavar": "PX"}, {"type": float, "metavar": "SHARE"}, {"action": "store_true"}
SIDES = {"type": int, "nargs": 4, "metavar": ("TOP", "RIGHT", "BOTTOM", "LEFT")}
OPTIONS = {
    "the hole": (
        ("dilation", PIXELS, f"by which the hole is grown, to take a rim or a shadow in{BY_DEFAULT}"),
        ("soft_edge", PIXELS | {"type": float}, f"inside the hole over which old and new are blended{BY_DEFAULT}"),
        ("soft_mask", FLAG, "gray in MASK is how far the filled picture is laid over the photo; above black is hole"),
        ("invert", FLAG, "black in MASK is the hole, not white"),
        ("extend", SIDES, "by which the photo grows; the new area is filled, worse with distance"),
        ("threshold", SHARE, f"of white: what is brighter in MASK is hole{BY_DEFAULT}"),
    ),
    "large photos": (
        ("windows", {"choices": WINDOWS}, "compute parts, around the holes (default: where that pays)"),
        ("context", SHARE, f"of a hole's longer side: what a part shows around it{BY_DEFAULT}"),
    ),
    "the file": (("quality", {"type": int, "metavar": "N"}, "1 to 100, of JPEG, WebP, AVIF, HEIC (default: changes least)"),),
    "the method": (
        ("preset", {"choices": PRESETS}, f"paper: 15 steps of Adam at each size; fast: 5 of Polyak{BY_DEFAULT}"),
        ("n_iters", {"type": int, "metavar": "N"}, "steps at each size; 0 is fast and plain (default: the preset's)"),
        ("smallest_scale", PIXELS, "that the network was trained at (default: its own)"),
        ("lr", {"type": float}, "how far a step goes (default: the network's own)"),
        ("erosion", PIXELS, f"of the hole's rim that do not count in a step{BY_DEFAULT}"),
        ("loss", {"choices": LOSSES}, f"code: that of the authors' code{BY_DEFAULT}"),
        ("optimizer", {"choices": OPTIMIZERS}, "how a step is chosen (default: the preset's)"),
        ("speed", {"choices": SPEEDS}, f"exact: the network as it is{BY_DEFAULT}"),
    ),
}


def _path(word):
    if not word:
        raise argparse.ArgumentTypeError("it is empty; expected a path")
    return Path(word)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """Says what is wrong in a line, in the command line's own names: argparse would list every option before it."""
        for name in (name for options in OPTIONS.values() for name, *_ in options):
            message = re.sub(rf"(?<![-\w])({name}) is\b", f"--{name.replace('_', '-')} is", message)
        self.exit(2, f"{self.prog}: error: {message} (--help tells what there is)\n")


def _parser():
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m refine_lib", description=ABOUT, epilog=EXAMPLES, formatter_class=layout)
    parser.add_argument("photo", type=_path, metavar="PHOTO", help="JPEG, PNG, TIFF, WebP, AVIF or HEIC, or a folder of them")
    one_for_all = "white where the hole is; for a folder a folder, or one for all; none: what was erased from PHOTO"
    parser.add_argument("mask", type=_path, metavar="MASK", nargs="?", help=one_for_all)
    parser.add_argument("-o", "--output", type=_path, metavar="OUT", required=True, help="a new file, or another folder")
    filled_by = "a smaller copy of PHOTO, filled by any other tool; or the name of a network that is to fill it"
    parser.add_argument("--guide", type=_path, metavar="FILE", help=filled_by)
    parser.add_argument("--network", default=DEFAULTS["network"], help=f"a name, see below, or a file of weights{BY_DEFAULT}")
    parser.add_argument("--n-steps", type=int, metavar="N", help="passes of latent-diffusion: 10, 20, 25, 50 ... (default: 50)")
    parser.add_argument("--seed", type=int, metavar="N", help="of latent-diffusion's noise: another fill (default: 0)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest there is)")
    parser.add_argument("--overwrite", action="store_true", help="make anew what is there already")
    parser.add_argument("--report", type=_path, metavar="FILE.csv", help="a new file: a row for each photo, see below")
    parser.add_argument("--quiet", action="store_true", help="say nothing but what went wrong")
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, value, words in options:
            group.add_argument(f"--{name.replace('_', '-')}", default=DEFAULTS[name], help=words, **value)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with printable_streams():
        return _main(argv)


def _main(argv):
    parser = _parser()
    args = parser.parse_intermixed_args(argv)  # MASK may be missing, or stand behind the options
    given = {name: getattr(args, name) for options in OPTIONS.values() for name, *_ in options}
    settings: dict[str, Any] = settings_for(args.network) | {name: value for name, value in given.items() if value is not None}
    try:
        check_request(**settings | {"extend": args.extend})
        guide, by_network = args.guide, is_network(str(args.guide))
        if guide and not by_network and (args.photo.is_dir() or not guide.is_file()):
            wanted = "expected the path of a picture, and PHOTO to be one photo; or the name of a network"
            raise ValueError(f"--guide is {str(guide)!r}; {wanted}")
        noise = {name: value for name in ("n_steps", "seed") if (value := getattr(args, name)) is not None}
        check_noise(**noise)
        jobs = plan(args.photo, args.mask, args.output, args.overwrite)
        if args.report:
            sources = [path for job in jobs for path in (job.photo, job.mask) if path]
            check_report(args.report, args.output if args.photo.is_dir() else None, args.overwrite, sources)
        model = load_network(args.network, args.device, progress=not args.quiet)
        guide = load_network(str(guide), args.device, progress=not args.quiet) if by_network else guide
        from_noise: list[Any] = [one for one in (model, guide) if why_not_split(one)]
        if noise and not from_noise:
            raise ValueError("--n-steps or --seed is given; expected latent-diffusion with it, as --network or --guide")
        for one in from_noise:
            one.sample_with(**noise)
        if args.photo.is_dir():
            _make_folder(args.output)
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    with _without_libraries_words() if args.quiet else nullcontext():
        return run(checked(jobs, args.overwrite), model, args.overwrite, args.quiet, args.report, guide=guide, **settings)


def _make_folder(output):
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"OUT is {str(output)!r}, a folder that cannot be made ({error.strerror}); expected another place"
        raise ValueError(told) from error


@contextmanager
def _without_libraries_words():
    """Keeps from the console what the libraries behind Pillow print on odd files: they write to the process's own stream."""
    sys.stderr.flush()
    try:
        kept, ours = os.dup(2), getattr(sys.stderr, "stream", sys.stderr)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with open(kept, "w", encoding=ours.encoding, errors="backslashreplace", closefd=False) as stream:
            with redirect_stderr(cast(Any, Patient(stream))) if ours is sys.__stderr__ else nullcontext():
                yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, ON_CTRL_C)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
