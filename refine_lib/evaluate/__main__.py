"""The command line: ``python -m refine_lib.evaluate IMAGES -o RESULTS``."""

import argparse
from pathlib import Path

from refine_lib.evaluate.grids import write_grids
from refine_lib.evaluate.measures import FEATURES
from refine_lib.evaluate.pictures import find_pictures, write_inputs
from refine_lib.evaluate.run import evaluate
from refine_lib.scenes.brushes import KINDS

EPILOG = """methods: plain:NETWORK, refined:NETWORK, refined:NETWORK:n_iters=5:optimizer=polyak, enlarged:NETWORK (the smallest
picture of the pyramid, enlarged), biharmonic, telea, navier-stokes, or folder:NAME:PATH for results made elsewhere in
PATH/KIND/NAME.png, of what --inputs wrote. NETWORK is a name or a path for refine_lib.load_network."""


def main():
    parser = argparse.ArgumentParser(
        prog="refine_lib.evaluate", description="The paper's Table 1 on any pictures.", epilog=EPILOG
    )
    parser.add_argument("images", nargs="+", help="a folder, files, or scenes:64 for 64 drawn scenes")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="a folder for the results; a stopped run goes on there"
    )
    parser.add_argument("--masks", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of hole (default: all)")
    parser.add_argument(
        "--methods", nargs="+", default=["plain:big-lama", "refined:big-lama"], help="see below (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=1024, help="a side of the pictures in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the holes (default: %(default)s)")
    parser.add_argument(
        "--features", choices=FEATURES, default="auto", help="auto: FID and LPIPS where their networks are there"
    )
    parser.add_argument("--limit", type=int, help="the most pictures that are taken")
    parser.add_argument("--keep", type=int, default=4, help="filled pictures are kept of so many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes of this machine, one a GPU where there are GPUs")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler; its workers need the files by the same paths")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--inputs", type=Path, metavar="FOLDER", help="only write pictures and masks there, for another tool")
    args = vars(parser.parse_args())
    inputs = args.pop("inputs")
    if not (inputs or args["output"]):
        parser.error("--output is not given; expected a folder for the results")
    try:
        pictures = find_pictures(args["images"], args["limit"], without=args["output"] or inputs)
        if inputs:
            wrong = write_inputs(pictures, args["masks"], args["size"], args["seed"], inputs)
            print(
                "\n".join(
                    [*wrong, f"wrote {len(pictures) - len(wrong)} pictures into {inputs}/images, holes into {inputs}/masks"]
                )
            )
            return
        table = evaluate(**args)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"\nstopped; the same command goes on from {args['output']}\n")
    print(table)
    print(f"{table.new} new rows in {table.wall_seconds:.1f} s")
    caption = f"{args['size']} px, holes of seed {args['seed']}, {', '.join(table.machines)}"
    for path in (*table.write(args["output"]), *write_grids(args["output"], table, pictures, caption)):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
