"""The pictures of an evaluation: files, cut and resized as the paper does, or drawn scenes; and their holes."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from refine_lib.photos.pixels import read_pixels, to_image, to_pixels
from refine_lib.scenes import random_scenes
from refine_lib.scenes.brushes import brush_mask, seed_of

UNSEEN = 900_000_000  # seeds below this were never trained with
SCENES = "scenes:"  # before a number: that many drawn scenes in place of files
ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Picture:
    """A picture by its name; ``path`` is its file, or None where the name says which scene is drawn."""

    name: str
    path: str | None = None

    def load(self, size):
        """The picture as (1, 3, size, size) in [0, 1], in steps of 1/255: the square in its middle, made smaller (Lanczos).

        Raises:
            OSError, ValueError: where the file cannot be read, or is smaller: enlarged, it would have no detail to find again.
        """
        if self.path is None:
            return to_image(to_pixels(random_scenes(size, seed=seed_of(self.name) % UNSEEN)))
        pixels = read_pixels(self.path)
        height, width = pixels.shape[:2]
        side = min(height, width)
        if side < size:
            raise ValueError(f"{self.name} is {width} px wide and {height} px high; expected {size} px or more")
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(pixels[top : top + side, left : left + side])
        return to_image(np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)))

    def hole(self, kind, size, seed):
        """The hole of a kind, (1, 1, size, size): of this picture's name and the seed, whatever other pictures there are.

        Raises:
            ValueError: where it falls between the pixels of a small picture.
        """
        mask = brush_mask(kind, size, seed_of(seed, kind, self.name))
        if not mask.any():
            raise ValueError(f"the {kind} hole of {self.name} has no pixel at {size} px; expected a larger size")
        return mask

    @property
    def stamp(self):
        """Tells a file from another one that takes its name later: size and time of its last change."""
        return "" if self.path is None else stamp_of(self.path)

    @property
    def file_name(self):
        """What its filled pictures are called: its name, ending in .png."""
        return self.name if self.name.lower().endswith(".png") else f"{self.name}.png"


def stamp_of(path):
    """Size and time of the last change of a file; empty where there is none."""
    path = Path(path)
    if not path.is_file():
        return ""
    found = path.stat()
    return f"{found.st_size} bytes, {found.st_mtime_ns}"


def find_pictures(images, limit=None, without=None):
    """The pictures that a source names, in the order of their names.

    Args:
        images: a folder, which is looked through with the folders in it; a file; several of these; or ``"scenes:64"`` for 64
            drawn scenes.
        limit: the most that are taken; None takes all.
        without: a folder whose files are no pictures of a source: results that lie beside them.

    Raises:
        FileNotFoundError: where there is no such file or folder.
        ValueError: where there is no picture in it, two have one name, or the number of scenes is none.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit is {limit!r}; expected 1 or more pictures, or None")
    found = {}
    for source in [images] if isinstance(images, (str, Path)) else list(images):
        for picture in _scenes(source) if str(source).startswith(SCENES) else _files(Path(source), without):
            if picture.file_name in found:
                raise ValueError(f"images has {picture.name!r} twice, or something like it; expected each name once")
            found[picture.file_name] = picture
    return list(found.values())[:limit]


def _scenes(source):
    number = str(source).removeprefix(SCENES)
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"images is {source!r}; expected {SCENES} and how many scenes to draw, as in {SCENES}64")
    return [Picture(f"scene-{i:04d}") for i in range(int(number))]


def _files(source, without):
    if source.is_file():
        return [Picture(source.name, str(source.resolve()))]
    if not source.is_dir():
        raise FileNotFoundError(f"images is {str(source)!r}, which is not there; expected a folder, a file or {SCENES}64")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(source).parts)]
    if without is not None:
        paths = [path for path in paths if not path.resolve().is_relative_to(Path(without).resolve())]
    if not paths:
        endings = ", ".join(ENDINGS)
        raise ValueError(f"images is {str(source)!r}, in which there is no picture; expected files that end in {endings}")
    return [Picture(path.relative_to(source).as_posix(), str(path.resolve())) for path in paths]


def write_inputs(pictures, kinds, size, seed, folder):
    """Writes what another tool needs to fill the same holes: ``images/NAME.png`` and ``masks/KIND/NAME.png``, white = hole.

    The picture is whole, its hole not erased. What the tool fills is then a method, ``folder:TOOL:FOLDER``, where FOLDER
    holds ``KIND/NAME.png``. What is there already is left as it is.

    Returns:
        Sentences on the pictures that cannot be read.

    Raises:
        ValueError: where the folder has pictures of another size or holes of another seed.
    """
    settle(dict(size=size, seed=seed), Path(folder))
    wrong = []
    for picture in pictures:
        places = [("images", lambda p=picture: p.load(size))]
        places += [(f"masks/{kind}", lambda p=picture, k=kind: p.hole(k, size, seed)) for kind in kinds]
        try:
            for place, make in places:
                path = Path(folder) / place / picture.file_name
                if not path.exists():
                    write_png(make(), path)
        except (OSError, ValueError) as error:
            wrong.append(f"{picture.name}: {error}")
    return wrong


def write_png(image, path):
    """Writes the first picture of a batch; it is there whole or not at all."""
    with whole_file(path) as part:
        Image.fromarray(to_pixels(image)).save(part, format="PNG", compress_level=1)


@contextmanager
def whole_file(path):
    """Gives a path to write to, whose file takes the place of ``path`` at the end, and goes where something went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def settle(settings, folder):
    """Writes settings down in a folder, or compares them with those that it was begun with.

    Raises:
        ValueError: where they differ.
    """
    path = folder / "settings.json"
    found = settled(folder)
    for name, value in settings.items():
        if found and found.get(name) != value:
            before = f"{name} is {value!r}, and {str(folder)!r} was begun with {found.get(name)!r}"
            raise ValueError(f"{before}; expected the same, or another folder")
    if not found:
        with whole_file(path) as part:
            part.write_text(json.dumps(settings, indent=1))


def settled(folder):
    """The settings that a folder was begun with; empty where it was not."""
    path = Path(folder) / "settings.json"
    return json.loads(path.read_text()) if path.is_file() else {}
