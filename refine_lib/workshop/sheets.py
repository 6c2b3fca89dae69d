"""Training pictures: windows of large drawn sheets, at several scales, each with a hole.

A sheet of 256 px costs 10 to 50 ms and gives some dozens of pictures: a window of it at full size, or of twice or four times
the side, shrunk; turned, mirrored and, for drawn patterns, in other colors. So drawing takes a small part of a step, and a
network sees at 64 px what it will be asked at 256 px.
"""

import functools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.leaves import random_leaves
from refine_lib.workshop.patterns import random_patterns
from refine_lib.workshop.recipes import N_MASKS

SIDE = 256  # of a sheet, in pixels
PER_CHUNK = 4  # sheets that are drawn together
N_CHUNKS = 24  # that are there at a time
DRAWN_ANYWHERE = ("patterns", "scenes")  # of no up and down, in colors that may be exchanged; a GPU draws them, too
USES = {"patterns": 32, "scenes": 32, "leaves": 48, "photos": 8}  # pictures that a sheet gives before the next takes its place
SHRINK = (4, 2, 1)  # how many of a sheet's pixels make one of a picture
FIRST_SEED = 1_000_000_000  # seeds of this and above are the training's own: held-out pictures use smaller ones
HOLES = {"thick": 0.65, "medium": 0.12, "thin": 0.08, "box": 0.15}  # how often holes of each kind occur


class Sheets:
    """The pictures of a training, a function of the step alone: a run that goes on sees what an undisturbed one would.

    Args:
        world: of ``recipes.WORLDS``.
        batch: pictures of 64 px to a step.
        seed: of the training, 0 to 3.
        close: share of the pictures that show a half or a quarter of a sheet's side.
        photos: a folder of pictures, for the world ``"photos"``.
        device: where pictures and holes come to be. Patterns and holes are drawn there, leaves and photos on the CPU.
        workers: processes that draw sheets ahead of their use; 0 draws each when it is wanted. Worth it beside a GPU.
    """

    def __init__(self, world, batch=16, seed=0, close=0.5, photos=None, device="cpu", workers=0):
        self._held_out = PhotoSheets(photos, held_out=True) if world == "photos" else None
        self.draw = _drawing(world, photos)
        self.world, self.n, self.close, self.first_seed = world, batch, close, FIRST_SEED * (seed + 1)

        self.device = torch.device(device)
        self._ahead = ahead = DrawnAhead(world, photos, workers) if workers else None

        @functools.lru_cache(maxsize=N_CHUNKS)
        def chunk(number):
            where = {"device": self.device} if world in DRAWN_ANYWHERE else {}
            drawn = ahead(self.first_seed + number) if ahead else self.draw(SIDE, PER_CHUNK, self.first_seed + number, **where)
            drawn = drawn.to(self.device)
            shrunk = (F.avg_pool2d(drawn, k) if k > 1 else drawn for k in SHRINK)  # once for all windows
            return [(255 * one).round().to(torch.uint8) for one in shrunk]

        @functools.lru_cache(maxsize=4)
        def holes(size, number):
            return random_holes(size, N_MASKS, self.first_seed + number, self.device)

        self._chunk, self._holes = chunk, holes

    def end(self):
        """Ends the processes that draw ahead, if there are any."""
        if self._ahead:
            self._ahead.close()

    def unseen(self, n, seed):
        """Sheets (n, 3, 256, 256) that no step sees: of a seed below those of the training, or of photos that are held out."""
        draw = self._held_out.draw if self._held_out else self.draw
        return draw(SIDE, n, seed)

    def batch(self, step, size=64):
        """Pictures (B, 3, size, size) in [0, 1] and their holes (B, 1, size, size), 1 = hole.

        Args:
            step: of the training, from 0.
            size: 64 or 128, in pixels. B is the training's batch, or as many as have the same number of pixels.
        """
        random = np.random.default_rng((self.first_seed, step))
        n, seen = self.n * 64**2 // size**2, self.n * step
        newest = seen // (PER_CHUNK * USES[self.world])
        chunks = [self._chunk(newest + k) for k in range(N_CHUNKS)]
        image = torch.stack([self._window(chunks, size, random) for _ in range(n)]) / 255
        at = seen % N_MASKS
        return image, self._holes(size, seen // N_MASKS)[at : at + n]

    def _window(self, chunks, size, random):
        """One picture (3, size, size) of whole numbers: a window of a sheet, shrunk, turned, mirrored."""
        chunk, number = chunks[random.integers(N_CHUNKS)], random.integers(PER_CHUNK)
        scale = 0 if size <= SIDE // SHRINK[0] else 1  # the whole sheet
        if random.random() < self.close:
            scale = min(scale + 1 + int(random.random() > 0.7), len(SHRINK) - 1)
        top, left = random.integers(SIDE // SHRINK[scale] - size + 1, size=2)
        window = chunk[scale][number, :, top : top + size, left : left + size]
        if random.random() < 0.5:
            window = window.flip(2)
        if self.world in DRAWN_ANYWHERE:  # no side is up, and no color is more likely than another
            turned, colors = window.rot90(random.integers(4), (1, 2)), torch.from_numpy(random.permutation(3))
            window = turned[colors.to(self.device)]
            window = 255 - window if random.random() < 0.5 else window
        return window


def random_holes(size, batch, seed, device="cpu"):
    """Holes (batch, 1, size, size), 1 = hole: strokes, most of them thick, and boxes, in a random order."""
    random = np.random.default_rng(seed)
    kinds = random.choice(list(HOLES), size=batch, p=list(HOLES.values()))
    masks = torch.zeros(batch, 1, size, size, device=device)
    for kind in HOLES:
        these = torch.from_numpy(np.flatnonzero(kinds == kind)).to(device)
        if kind == "box":
            for i in these:
                high, wide = random.uniform(0.2, 0.5, 2) * size
                top, left = random.uniform(-0.1, 1.1, 2) * (size - high, size - wide)
                masks[i, :, max(int(top), 0) : int(top + high), max(int(left), 0) : int(left + wide)] = 1
        elif len(these):
            masks[these] = stroke_masks(size, len(these), seed, kind, device)
    return masks


class DrawnAhead:
    """Sheets that other processes draw before they are asked for: a call gives those of a seed, as ``Sheets.draw`` does.

    Args:
        world, photos: as in ``Sheets``.
        workers: how many processes.
    """

    def __init__(self, world, photos, workers):
        self._of, self._ahead, self._promised = (world, photos), 2 * workers, {}
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"))  # forked ones would share a GPU's state

    def __call__(self, seed):
        for one in range(seed, seed + 1 + self._ahead):
            if one not in self._promised:
                self._promised[one] = self._pool.submit(_drawn_elsewhere, *self._of, one)
        return torch.from_numpy(self._promised.pop(seed).result())

    def close(self):
        self._pool.shutdown(cancel_futures=True)


def _drawn_elsewhere(world, photos, seed):
    torch.set_num_threads(1)
    return _drawing(world, photos)(SIDE, PER_CHUNK, seed).numpy()


@functools.lru_cache(maxsize=1)
def _drawing(world, photos):
    worlds = {"patterns": random_patterns, "scenes": patterns_and_planes, "leaves": random_leaves}
    return worlds.get(world) or PhotoSheets(photos).draw


def patterns_and_planes(size, batch=1, seed=0, device="cpu"):
    """Pictures (B, 3, size, size) in [0, 1]: one half of the wider world, the other of that of the lessons."""
    n = batch // 2
    return torch.cat([random_scenes(size, n, seed, device), random_patterns(size, batch - n, seed, device)])


class PhotoSheets:
    """Random squares of the pictures in a folder, the user's own. Of ten or more, every tenth is held out.

    Args:
        folder: of the pictures.
        held_out: whether these are the ones that are held out; of fewer than ten, all are.

    Raises:
        ValueError: where the folder is not given or holds no picture.
    """

    def __init__(self, folder, held_out=False):
        if folder is None or not Path(folder).is_dir():
            raise ValueError(f"photos is {folder}; expected a folder of pictures")
        files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        files = [p for p in files if _can_be_read(p)]
        if not files:
            raise ValueError(f"photos is {folder}, which holds no .jpg, .png or .webp that can be read; expected at least one")
        tenth = files[::10] if len(files) >= 10 else []
        self.files = (tenth or files) if held_out else [p for p in files if p not in tenth]

    def draw(self, size, batch, seed):
        """Squares (batch, 3, size, size) in [0, 1]: from a half to the whole of a picture's short side, shrunk or enlarged."""
        random = np.random.default_rng(seed)
        squares = []
        for _ in range(batch):
            with Image.open(self.files[random.integers(len(self.files))]) as photo:
                photo = ImageOps.exif_transpose(photo).convert("RGB")
            side = int(min(photo.size) * random.uniform(0.5, 1))
            left, top = (random.integers(length - side + 1) for length in photo.size)
            square = photo.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side), reducing_gap=3)
            squares.append(torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255)
        return torch.stack(squares)


def _can_be_read(path):
    """Whether a file is a whole picture: a damaged one would end a training after days."""
    try:
        with Image.open(path) as photo:
            photo.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True
