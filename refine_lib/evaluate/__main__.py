"""The command line: ``python -m refine_lib.evaluate IMAGES -o RESULTS``."""

import signal
import sys

ON_CTRL_C = signal.getsignal(signal.SIGINT)
if __name__ == "__main__" and ON_CTRL_C is signal.default_int_handler:
    # While all that follows is loaded Ctrl-C just ends it: what is interrupted there turns the exception into others.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
from collections.abc import Sequence
from pathlib import Path

from refine_lib import __version__
from refine_lib.evaluate import evaluate  # first: it says what to install where something is missing
from refine_lib.evaluate.grids import write_grids
from refine_lib.evaluate.measures import FEATURES
from refine_lib.evaluate.methods import METHOD_WORDS, refined_with
from refine_lib.evaluate.pictures import find_pictures, write_inputs
from refine_lib.photos.opened import printable_streams
from refine_lib.scenes.brushes import KINDS

EPILOG = f"""methods: {METHOD_WORDS}. NETWORK is a name or a path for refine_lib.load_network. enlarged takes the smallest
picture of the pyramid. folder takes results made elsewhere in PATH/KIND/NAME.png, of what --inputs wrote."""


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command with the words after its name; without any, with those of the process."""
    with printable_streams():
        _main(words)


def _main(words):
    parser = argparse.ArgumentParser("refine_lib.evaluate", description="The paper's Table 1 on any pictures.", epilog=EPILOG)
    add = parser.add_argument
    add("images", nargs="+", help="a folder, files, or scenes:64 for 64 drawn scenes")
    add("-o", "--output", type=Path, required=True, help="a folder for the results; a stopped run goes on there")
    add("--masks", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of hole (default: all)")
    add("--methods", nargs="+", default=["plain:big-lama", "refined:big-lama"], help="see below (default: %(default)s)")
    add("--size", type=int, default=1024, help="a side of the pictures in pixels (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the holes (default: %(default)s)")
    add("--features", choices=FEATURES, default="auto", help="auto: FID and LPIPS where their networks are there")
    add("--limit", type=int, help="the most pictures that are taken")
    add("--keep", type=int, default=4, help="filled pictures are kept of so many (default: %(default)s)")
    add("--workers", type=int, default=0, help="processes of this machine, one a GPU where there are GPUs")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler; its workers need the files by the same paths")
    add("--device", help="cpu, cuda or mps (default: the best there is)")
    add("--retry", action="store_true", help="try again what failed")
    add("--inputs", type=Path, metavar="FOLDER", help="only write pictures and masks there, for another tool")
    args = vars(parser.parse_args(words))
    inputs, output = args.pop("inputs"), args["output"]
    try:
        pictures = find_pictures(args["images"], args["limit"], without=[output, inputs] if inputs else output)
        if inputs:
            wrong = write_inputs(pictures, args["masks"], args["size"], args["seed"], inputs)
            print(
                *wrong, f"wrote {len(pictures) - len(wrong)} pictures into {inputs}/images, holes into {inputs}/masks", sep="\n"
            )
            return
        table = evaluate(**args)
        print(table)
        print(f"{table.new} new rows in {table.wall_seconds:.1f} s")
        told = [f"{args['size']} px", f"holes of seed {args['seed']}", refined_with(args["methods"]), *table.machines]
        caption = ", ".join(filter(None, [*told, f"refine_lib {__version__}"]))
        for path in (*table.write(output), *write_grids(output, table, pictures, caption)):
            print(f"wrote {path}")
    except (ArithmeticError, ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        parser.error(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        parser.exit(130, f"\nstopped; the same command goes on from {output}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, ON_CTRL_C)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
