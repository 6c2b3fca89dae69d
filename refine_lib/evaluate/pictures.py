"""The pictures of an evaluation: files, cut and resized as the paper does, or drawn scenes; and their holes."""

import numbers
import os
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from refine_lib.evaluate.folder import check_free, settle
from refine_lib.photos.opened import opened
from refine_lib.photos.pixels import read_pixels, to_image, to_pixels
from refine_lib.scenes import random_scenes
from refine_lib.scenes.brushes import brush_mask, seed_of
from refine_lib.whole import whole_file

FIRST_TRAINING_SEED = 900_000_000  # scenes of smaller seeds were never trained with
SCENES = "scenes:"  # before a number: that many drawn scenes in place of files
MOST_SCENES = 1_000_000
LONGEST_NAME = 200  # bytes of a kept picture's; file systems take 255
Sources = str | Path | Sequence[str | Path]
ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Picture:
    """A picture by its name; ``path`` is its file, or None where the name says which scene is drawn."""

    name: str
    path: str | None = None

    def load(self, size: int) -> torch.Tensor:
        """The picture as (1, 3, size, size) in [0, 1], in steps of 1/255: the square in its middle, made smaller (Lanczos).

        Raises:
            OSError, ValueError: where the file cannot be read, or is smaller: enlarged, it would have no detail to find again.
        """
        if self.path is None:
            return to_image(to_pixels(random_scenes(size, seed=seed_of(self.name) % FIRST_TRAINING_SEED)))
        pixels = read_pixels(self.path)
        height, width = pixels.shape[:2]
        side = min(height, width)
        if side < size:
            raise ValueError(f"{self.name} is {width} px wide and {height} px high; expected {size} px or more")
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(pixels[top : top + side, left : left + side])
        return to_image(np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)))

    def hole(self, kind: str, size: int, seed: int) -> torch.Tensor:
        """The hole of a kind, (1, 1, size, size): of this picture's name and the seed, whatever other pictures there are.

        Raises:
            ValueError: where it falls between the pixels of a small picture.
        """
        mask = brush_mask(kind, size, seed_of(seed, kind, self.name))
        if not mask.any():
            raise ValueError(f"the {kind} hole of {self.name} has no pixel at {size} px; expected a larger size")
        return mask

    @property
    def file_name(self) -> str:
        """What its filled pictures are called: its name, ending in .png. Of a very long one the end is replaced."""
        path = Path(self.name if self.name.lower().endswith(".png") else f"{self.name}.png")
        name = path.name.encode()
        if len(name) > LONGEST_NAME:
            path = path.with_name(f"{name[:LONGEST_NAME].decode(errors='ignore')}-{zlib.crc32(name):08x}.png")
        return path.as_posix()


def stamp_of(path: str | Path | None) -> str:
    """Tells a file from another one that takes its name later: size and time of its last change. Empty where there is none."""
    found = Path(path or "")
    return f"{found.stat().st_size} bytes, {found.stat().st_mtime_ns}" if found.is_file() else ""


def find_pictures(images: Sources, limit: int | None = None, without: Sources = ()) -> list[Picture]:
    """The pictures that a source names, in the order of their names.

    Args:
        images: a folder, which is looked through with the folders in it; a file; several of these; or ``"scenes:64"`` for 64
            drawn scenes.
        limit: the most that are taken; None takes all.
        without: folders whose files are no pictures of a source: results that lie beside them.

    Raises:
        FileNotFoundError: where there is no such file or folder.
        ValueError: where there is no picture in it, two would be kept under one name (in a file system for which large and
            small letters are the same, too), or the number of scenes is none.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, numbers.Integral) or limit < 1):
        raise ValueError(f"limit is {limit!r}; expected 1 or more pictures, or None")
    found, without = {}, [Path(one).resolve() for one in ([without] if isinstance(without, (str, Path)) else without)]
    for source in [images] if isinstance(images, (str, Path)) else images:
        for picture in _scenes(str(source)) if str(source).startswith(SCENES) else _files(Path(source), without):
            name = unicodedata.normalize("NFC", picture.file_name).casefold()
            if name in found:
                raise ValueError(f"images has {picture.name!r} twice, or something like it; expected each name once")
            found[name] = picture
    return list(found.values())[:limit]


def _scenes(source):
    number = source.removeprefix(SCENES)
    if not number.isdecimal() or len(number) > 9 or not 1 <= int(number) <= MOST_SCENES:
        wanted = f"{SCENES} and how many scenes to draw, as in {SCENES}64, at most {MOST_SCENES}"
        raise ValueError(f"images is {source[:60]!r}; expected {wanted}")
    return [Picture(f"scene-{i:04d}") for i in range(int(number))]


def _files(source, without):
    if source.is_file():
        return [Picture(_text(source.name), str(source.resolve()))]
    if not source.is_dir():
        what = "neither a file nor a folder" if os.path.lexists(source) else "not there"
        raise FileNotFoundError(f"images is {str(source)!r}, which is {what}; expected a folder, a file or {SCENES}64")
    found = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    pictures = [
        Picture(_text(name), str(path.resolve()))
        for name, path in found.items()
        if name.lower().endswith(ENDINGS)
        and "/." not in f"/{name}"  # neither hidden itself nor in a hidden folder
        and not any(path.resolve().is_relative_to(folder) for folder in without)
    ]
    if not pictures:
        wanted = f"files that end in {', '.join(ENDINGS)}" + ", outside of the folder for results" * bool(without)
        raise ValueError(f"images is {str(source)!r}, in which there is no picture; expected {wanted}")
    return pictures


def _text(name):
    """A file's name as Unicode text, which it need not be."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_inputs(pictures: Sequence[Picture], kinds: Sequence[str], size: int, seed: int, folder: str | Path) -> list[str]:
    """Writes what another tool needs to fill the same holes: ``images/NAME.png`` and ``masks/KIND/NAME.png``, white = hole.

    The picture is whole, its hole not erased. What the tool fills is then a method, ``folder:TOOL:FOLDER``, where FOLDER
    holds ``KIND/NAME.png``. What is there already is left as it is, but a damaged file is written anew.

    Returns:
        Sentences on the pictures that cannot be read.

    Raises:
        OSError: where a file cannot be written. The same call goes on from there.
        ValueError: where the folder has pictures of another size or holes of another seed.
    """
    folder, wrong = Path(folder), []
    kinds_of = {"images": None, **{f"masks/{kind}": kind for kind in kinds}}
    check_free([folder / "settings.json", *(folder / place / p.file_name for place in kinds_of for p in pictures)])
    settle(dict(size=size, seed=seed), folder)
    for picture in pictures:
        for place, kind in kinds_of.items():
            path = folder / place / picture.file_name
            if fault_of(path, size):
                try:
                    made = picture.hole(kind, size, seed) if kind else picture.load(size)
                except (OSError, ValueError) as error:
                    wrong.append(f"{picture.name}: {error}")
                    break
                write_png(made, path)
    return wrong


def write_png(image: torch.Tensor, path: Path) -> None:
    """Writes the first picture of a batch; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        Image.fromarray(to_pixels(image)).save(part, format="PNG", compress_level=1)


def fault_of(path: Path, size: int) -> str:
    """What is wrong with a file of ``write_png``, in words; empty where it is whole and has this size."""
    try:
        height, width = read_pixels(path).shape[:2]
        with opened(path, ("PNG",), "path", "a PNG") as file:
            file.verify()  # its checksums, which Pillow does not look at when it reads pixels
    except (OSError, ValueError) as error:
        return str(error)
    return "" if height == width == size else f"{path} is {width} px wide and {height} px high"
