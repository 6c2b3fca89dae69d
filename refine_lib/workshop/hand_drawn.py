"""Fills holes where people make them: ``python -m refine_lib.workshop.hand_drawn figures/photos.png``.

Photos of scikit-image; each hole lies over a thing that is to go. Nobody knows what is behind it, so nothing is measured.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from refine_lib.networks import load_network
from refine_lib.photos.pixels import to_image
from refine_lib.plots import made_with, show_picture
from refine_lib.plots.style import drawn_on
from refine_lib.refine import multiscale_inpaint
from refine_lib.workshop.effect import SETTINGS, fill_after_telea

ROOM = 1.35  # side of a square beside the hole's longer side


@dataclass(frozen=True)
class Place:
    """A photo of scikit-image, and the outline of a thing in it that is to go.

    Attributes:
        photo: the name of the function of ``skimage.data``.
        outline: corners of a polygon, in pixels of the photo, drawn by hand around the thing: ``x,y x,y ...``.
    """

    photo: str
    outline: str

    @property
    def corners(self):
        """(N, 2) of x and y."""
        return np.array([corner.split(",") for corner in self.outline.split()], int)

    def picture(self):
        """The photo, (1, 3, H, W) in [0, 1]. A gray one has three equal channels."""
        from skimage import data  # with the notebooks' extras: the library does without it

        pixels = getattr(data, self.photo)()
        return to_image(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1))

    def mask(self):
        """The hole, (1, 1, H, W), 1 = hole."""
        height, width = self.picture().shape[-2:]
        drawn = Image.new("L", (width, height))
        ImageDraw.Draw(drawn).polygon([*map(tuple, self.corners)], fill=255)
        return torch.from_numpy(np.asarray(drawn) / np.float32(255))[None, None]

    def square(self):
        """Rows and columns of a square about the hole, as slices."""
        corners, size = self.corners[:, ::-1], self.picture().shape[-2:]  # (y, x)
        first, last = corners.min(0), corners.max(0)
        side = min(round(ROOM * (last - first).max()), *size)
        begin = np.clip((first + last - side) // 2, 0, np.array(size) - side)
        return tuple(slice(int(start), int(start) + side) for start in begin)


# Photos: SpaceX, NASA (both in the public domain), Rachel Michetti, Lav Varshney (both CC0).
PLACES = {
    "a mast": Place(
        "rocket",
        "191,119 208,119 208,240 206,381 163,381 171,330 180,260 187,188 194,186",
    ),
    "a model": Place(
        "astronaut",
        "394,0 437,0 444,38 457,46 460,262 474,272 474,279 364,283 364,256 351,228 375,172 377,100 379,42 390,36",
    ),
    "a patch": Place(
        "astronaut",
        "214,386 211,402 201,416 187,426 171,429 155,426 141,416 131,402 128,386 131,370 141,356 155,346 171,343 "
        "187,346 201,356 211,370",
    ),
    "a spoon": Place(
        "coffee",
        "397,70 410,65 426,72 421,100 414,125 405,152 398,185 391,212 389,230 404,248 409,272 404,300 390,322 "
        "362,330 338,321 322,292 327,262 315,256 318,242 345,234 370,228 384,185 405,120 397,90",
    ),
    "a tower": Place(
        "camera",
        "409,128 413,122 420,112 433,115 435,131 434,191 409,191",
    ),
}


def fills(place, models, **settings):
    """Fills the hole of a place in each way.

    Returns:
        From the way to a picture (1, 3, H, W): the photo, Telea's fill, and the plain and the refined fill of each network.
    """
    photo, mask = place.picture(), place.mask()
    done = {"photo": photo, "Telea": fill_after_telea(photo, mask)}
    for name, model in models.items():
        device = next(model.parameters()).device
        result = multiscale_inpaint(photo.to(device), mask.to(device), model, progress=False, **{**SETTINGS, **settings})
        done |= {f"plain, {name}": result.plain.cpu(), f"refined, {name}": result.image.cpu()}
    return done


def draw(models, places=PLACES, **settings):
    """Draws a column for each place, with what lies around the hole, and a row for each way to fill it.

    Args:
        models: ``SplitNetwork`` by their names.
        places: ``Place`` by their titles.
        settings: of ``multiscale_inpaint``, in place of ``SETTINGS`` of ``effect``.

    Returns:
        The figure.
    """
    several = {"networks": ", ".join(models)} if len(models) > 1 else {}
    caption = made_with(next(iter(models.values())), **several, **{**SETTINGS, **settings})
    rows, columns = 2 + 2 * len(models), len(places)
    with drawn_on(None, caption, (rows, columns), (2.4 * columns, 2.6 * rows + 0.5), squeeze=False) as axes:
        axes[0, 0].figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for column, (title, place) in enumerate(tqdm(places.items(), desc="places in photos")):
            part, hole = (..., *place.square()), place.mask()
            for ax, (way, picture) in zip(axes[:, column], fills(place, models, **settings).items(), strict=True):
                name = f"{title} ({place.photo})" if way == "photo" else way if column == 0 else ""
                show_picture(picture[part], hole[part] if way == "photo" else None, name, ax)
    return axes[0, 0].figure


def main():
    parser = argparse.ArgumentParser(description="Fill holes where people make them, in scikit-image's photos.")
    parser.add_argument("figure", type=Path, help="the picture to write")
    parser.add_argument("--networks", nargs="+", default=["mini-lama"], metavar="NETWORK", help="names, or paths of weights")
    parser.add_argument("--lr", type=float, default=SETTINGS["lr"], help="of z (default: %(default)s)")
    parser.add_argument("--n-iters", type=int, default=SETTINGS["n_iters"], help="at each level (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    args = parser.parse_args()
    if not args.figure.absolute().parent.is_dir():
        parser.error(f"argument figure: there is no folder {args.figure.parent} to write {args.figure.name} into")
    try:
        models = {Path(name).stem: load_network(name, args.device) for name in args.networks}
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(f"argument --networks: {error}")
    draw(models, lr=args.lr, n_iters=args.n_iters).savefig(args.figure, dpi=140)
    print(f"wrote {args.figure}")


if __name__ == "__main__":
    main()
