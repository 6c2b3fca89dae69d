"""A photo and a mask in, the filled photo out: files as cameras and editors write them, of any size that memory allows."""

import itertools
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from PIL import Image
from tqdm.auto import tqdm

from refine_lib.checks import as_integer, as_number, check_choice, check_smallest_scale
from refine_lib.device import pick_device, plainly
from refine_lib.fast.memory import HELD_PER_BYTE, Budget, available_memory, bytes_per_pixel
from refine_lib.fast.speed import sped_up
from refine_lib.masks import erode
from refine_lib.networks import load_network, settings_for
from refine_lib.networks.probe import check_model, device_of
from refine_lib.optimizers import OPTIMIZERS
from refine_lib.photos.files import LeftOut, Photo, check_holds, check_output, check_quality, read_photo, write_photo
from refine_lib.photos.holes import read_hole
from refine_lib.photos.opened import Source, name_of
from refine_lib.photos.pixels import to_image, to_pixels
from refine_lib.photos.windows import WINDOWS, Window, plan_windows
from refine_lib.pyramid import level_sizes
from refine_lib.refine import NothingToRefine, check_settings, multiscale_inpaint
from refine_lib.result import BAR, Result, Step, work_of

KEPT_BYTES_PER_PIXEL = 70  # of the photo, in the results of its windows: pictures and masks of all levels


@dataclass(eq=False)
class InpaintedPhoto:
    """What ``inpaint_photo`` gives back. ``print(photo)`` says what was done.

    Attributes:
        image: the filled photo, a Pillow image, upright, in the photo's mode (a palette as its colors, black and white as
            gray). Where colors have 16 bits a channel it is an array (H, W, 3) or (H, W, 4) of uint16, since Pillow has no such
            mode. ``numpy.asarray(image)`` is the pixels of either.
        mask: the hole, grown by ``dilation``: (1, 1, H, W), 1 = hole.
        windows: the parts that were computed, or were to be, each as (top, bottom, left, right) in pixels.
        results: the ``Result`` of each window that was begun, with the window's picture.
        message: sentences where nothing was refined, in whole or in part, where nothing is known, where the run was stopped, or
            where EXIF data are damaged and were left out. Else it is empty.
        stopped: whether the callback or the keyboard stopped the run before its end. What it did not reach is as it was.
        seconds: the time that the computation took.
        path: the file that it was written to, or None.
    """

    image: Image.Image | np.ndarray
    mask: torch.Tensor
    windows: list[tuple[int, int, int, int]]
    results: list[Result]
    message: str
    stopped: bool
    seconds: float
    path: Path | None = None
    _photo: Photo = field(kw_only=True, repr=False)

    def save(self, path: str | os.PathLike, overwrite: bool = False, quality: int | None = None) -> None:
        """Writes it with what was kept of the photo's file, as ``refine_lib.photos.files.write_photo`` does."""
        write_photo(self.image, path, self._photo, overwrite, quality)
        self.path = Path(path)

    def __str__(self):
        n = len(self.windows)
        size = "{} px wide, {} px high".format(*self._photo.size)
        return f"{self._photo.name}: {size}, {n} window{'s' * (n != 1)}, {self.seconds:.1f} s. {self.message}".rstrip()

    def __repr__(self):
        return f"<InpaintedPhoto: {self}>"


@plainly
def inpaint_photo(
    photo: Source,
    mask: Source,
    output: str | os.PathLike | None = None,
    network: Any = "big-lama",
    *,
    smallest_scale: int | None = None,
    lr: float | None = None,
    n_iters: int = 15,
    erosion: int = 15,
    loss: str = "paper",
    optimizer: str = "adam",
    speed: str = "auto",
    threshold: float = 0.5,
    dilation: int = 0,
    soft_edge: float = 0,
    windows: str = "auto",
    context: float = 0.5,
    quality: int | None = None,
    overwrite: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
    callback: Callable[[Step], object] | None = None,
) -> InpaintedPhoto:
    """Fills the hole in a photo and leaves the rest as it is: every pixel, the size, the EXIF data, the color profile.

    The photo is turned upright as its EXIF data say. It may be RGB or gray of 8 bits a channel, with a palette or transparency
    (what is filled is opaque), or gray, RGB or RGBA of 16. Pixels outside the hole come back bit for bit. A file of a lossy
    format changes them a little, as ``refine_lib.photos.files.write_photo`` tells; a JPEG is compressed as it was.
    ``refine_lib.photos.files.read_photo`` tells what else of a file is kept, and what is not (IPTC data for one).

    Args:
        photo: a path, an opened file or a Pillow image: JPEG, PNG, TIFF or WebP; also GIF and BMP, AVIF with Pillow 11.3 or
            newer, and HEIC with the extra ``[photos]``.
        mask: the same, of any mode, and of the photo's size. It is bright where the hole is, or drawn there in one color on
            transparent ground.
        output: the path to write to. Its ending, as .jpg, .png, .tif or .webp, says the format. When a run is stopped, what it
            has is written beside it, as ``name.stopped.png``. None writes nothing.
        network: a name or path for ``load_network``, or a split network.
        smallest_scale, lr: as in ``multiscale_inpaint``. None is what suits the network that is named, and for a split
            network 512 and 0.002.
        n_iters, erosion, loss, optimizer, speed, callback: as in ``multiscale_inpaint``. A ``Step`` speaks of the window that
            is computed.
        threshold: a share of white. What is brighter in the mask is hole.
        dilation: radius in pixels of the disc by which the hole is grown.
        soft_edge: the width in pixels, from the grown hole's rim inwards, over which the old picture is blended into the new.
        windows: ``"auto"`` computes the whole photo where memory holds it, and else a window around each hole. ``"always"``
            computes windows, which is faster where holes are small. ``"never"`` computes the whole. The photo is never made
            smaller.
        context: what a window shows to each side of its hole, as a share of the hole's longer side. It is at least
            ``smallest_scale`` pixels. Where memory does not hold that, the window shows less, but at least a quarter of
            ``smallest_scale``.
        quality: 1 to 100, of an output in a lossy format, as in ``refine_lib.photos.files.write_photo``. None changes the photo
            least.
        overwrite: whether a file that is there is replaced.
        device: where a network that is named computes, as in ``load_network``.
        progress: whether to show a progress bar.

    Returns:
        An ``InpaintedPhoto``.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: where an argument or a file is not as above, output is there already or
            cannot hold the photo, or the network or the device cannot be had; before any work is done.
        OSError: where the result cannot be written, on a full disk for one; no part of a file is left.
        MemoryError: where memory does not hold the photo, or a window around a hole.
        FloatingPointError: where the loss is no longer finite.

    Warns:
        NothingToRefine: where there was nothing to refine.
        LeftOut: where the photo's EXIF data are damaged and were left out.

    Example:
        >>> from PIL import Image
        >>> photo, mask = Image.new("RGB", (96, 64), "teal"), Image.new("L", (96, 64))
        >>> mask.paste(255, (40, 20, 60, 40))
        >>> done = inpaint_photo(photo, mask, network="mini-lama", smallest_scale=32, erosion=3, device="cpu", progress=False)
        >>> done.image.size, done.windows, done.image.getpixel((0, 0)) == photo.getpixel((0, 0))
        ((96, 64), [(0, 64, 0, 96)], True)
    """
    named = isinstance(network, (str, os.PathLike))
    settings: dict[str, Any] = dict(settings_for(network if named else None))
    settings |= {key: value for key, value in {"smallest_scale": smallest_scale, "lr": lr}.items() if value is not None}
    settings |= {"n_iters": n_iters, "erosion": erosion, "loss": loss, "optimizer": optimizer, "speed": speed}
    (threshold, dilation, soft_edge, context), settings = check_request(
        threshold, dilation, soft_edge, windows, context, quality=quality, callback=callback, **settings
    )
    if named:
        device = pick_device(device)
    else:
        check_model(network, torch.float32)
        if device is not None:
            raise ValueError(f"device is {device!r} and network is a split network; expected None: it stays where it is")
    if output is not None:
        check_output(output, overwrite, (photo, mask))
    _check_two(photo, mask)
    given, hole = read_photo(photo), read_hole(mask, threshold)
    _check_size(hole, given)
    if output is not None:
        check_holds(output, given)

    started = time.perf_counter()
    known = 1 - torch.from_numpy(hole)[None, None].float()
    grown = 1 - erode(known, 2 * int(dilation) + 1)
    work = _Work(given.image, grown[0, 0].numpy() > 0)
    if grown.any():
        model = load_network(os.fspath(network), device, progress) if named else network
        available = available_memory(device_of(model, torch.device("cpu"))) - KEPT_BYTES_PER_PIXEL * grown.numel()
        budget = Budget(
            HELD_PER_BYTE * bytes_per_pixel(sped_up(model, speed, whole=loss == "code")[0], OPTIMIZERS[optimizer]),
            max(available, 0),
        )
        work.windows, work.owner = plan_windows(work.hole, windows, context, settings["smallest_scale"], budget)
        work.run(model, settings, callback, Path(given.name).name if progress else None)

    said, whole = work.message(threshold), "The hole is the whole photo: there is nothing to go by." * bool(work.hole.all())
    done = InpaintedPhoto(
        image=work.image(soft_edge),
        mask=grown,
        windows=[(w.top, w.bottom, w.left, w.right) for w in work.windows],
        results=work.results,
        message="\n".join(filter(None, [whole, said, *dict.fromkeys(result.note for result in work.results), given.message])),
        stopped=work.stopped,
        seconds=time.perf_counter() - started,
        _photo=given,
    )
    if output is not None:
        path = _free_name(output) if done.stopped else output
        done.save(path, overwrite and not done.stopped, quality)
    if said and not done.stopped:
        warnings.warn(said, NothingToRefine, stacklevel=3)
    if given.message:
        warnings.warn(given.message, LeftOut, stacklevel=3)
    return done


def check_request(
    threshold, dilation, soft_edge, windows, context, smallest_scale, quality=None, callback=None, speed="auto", **settings
) -> tuple[tuple[float, int, float, float], dict[str, Any]]:
    """The numbers of ``inpaint_photo``, and its settings for ``multiscale_inpaint``. Raises unless all are in range."""

    def at_least_0(value, name, wanted):
        return as_number(value, name, lambda number: 0 <= number < math.inf, wanted)

    check_quality(quality)
    scale = check_smallest_scale(smallest_scale)
    settings = check_settings(**settings, callback=callback, speed=speed) | {"smallest_scale": scale, "speed": speed}
    check_choice(windows, "windows", WINDOWS)
    share = "expected a share of white between 0 and 1"
    return (
        as_number(threshold, "threshold", lambda number: 0 < number < 1, share),
        as_integer(dilation, "dilation", "pixels"),
        at_least_0(soft_edge, "soft_edge", "expected a width of 0 or more pixels"),
        at_least_0(context, "context", "expected 0 or more, a share of the hole's longer side"),
    ), settings


class _Work:
    """The filling of a photo's holes, window by window. Each window sees what the earlier ones filled."""

    def __init__(self, image, hole):
        pixels = np.asarray(image)
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        self.given = {2: pixels[..., 0], 4: pixels[..., :3]}.get(channels, pixels)
        self.alpha = pixels[..., -1] if channels in (2, 4) else None
        self.colors = self.given.copy()
        self.hole, self.filled = hole, np.zeros_like(hole)
        self.windows: list[Window] = []  # and owner, as plan_windows gives them
        self.owner = np.zeros(hole.shape, np.int32)
        self.results, self.stopped = [], False

    def run(self, model, settings, callback, title):
        """Runs ``multiscale_inpaint`` on each window, with a bar over them all, unless title is None."""
        sizes = [level_sizes(*window.size, settings["smallest_scale"]) for window in self.windows]
        work = [sum(work_of(levels, settings["n_iters"])) for levels in sizes]
        with tqdm(total=sum(work), desc=title, bar_format=BAR, leave=None, disable=title is None) as bar:
            try:
                for i, window in enumerate(self.windows):
                    where = f"window {i + 1}/{len(self.windows)}, " * (len(self.windows) > 1)
                    self._compute(window, model, settings, partial(_show, bar, where, sizes[i], callback))
                    if self.stopped:
                        break
                    bar.update(sum(work[: i + 1]) - bar.n)  # a level with nothing to match is over at once
            except KeyboardInterrupt:  # between two steps
                if not self.results:
                    raise
                self.stopped = True

    def _compute(self, window, model, settings, callback):
        unknown = self.hole[window.part] & ~self.filled[window.part]
        image, mask = to_image(self.colors[window.part]), torch.from_numpy(unknown)[None, None].float()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingToRefine)  # said once for the whole photo
            try:
                result = multiscale_inpaint(image, mask, model, **settings, callback=callback, progress=False)
            except torch.OutOfMemoryError as error:
                height, width = window.size
                wanted = "expected more, or windows ('always') with less context"
                raise MemoryError(f"memory did not hold {width} px by {height} px on the device; {wanted}") from error
        self.results.append(result)
        self.stopped = result.stopped
        picture = result.image if self.colors.ndim == 3 else result.image.mean(dim=1, keepdim=True)
        own = self.owner[window.part] == window.number  # not what it shows of others' holes
        self.colors[window.part][own] = to_pixels(picture, self.colors.dtype)[own]
        self.filled[window.part] |= own

    def image(self, soft_edge):
        """The photo with what is filled so far, its seam softened, as ``Photo.image`` is."""
        filled, colors = self.filled, self.colors.copy()
        if soft_edge and not filled.all():
            depth = np.asarray(scipy.ndimage.distance_transform_edt(filled))[filled]
            weight = (depth / (soft_edge + 1)).clip(max=1).reshape(-1, *[1] * (colors.ndim - 2))
            colors[filled] = (weight * colors[filled] + (1 - weight) * self.given[filled]).round()
        if self.alpha is not None:
            colors = np.dstack([colors, np.where(filled, np.iinfo(colors.dtype).max, self.alpha)]).astype(colors.dtype)
        return colors if colors.ndim == 3 and colors.dtype == np.uint16 else Image.fromarray(colors)

    def message(self, threshold):
        """What the runs have to say, a sentence or more each. It is empty where all holes were refined."""
        if not self.hole.any():
            return f"The mask has no hole, nothing above {threshold:.0%} of white: the photo comes back as it is."
        n = len(self.windows)
        said = [f"Window {i} of {n}: " * (n > 1) + r.message for i, r in enumerate(self.results, start=1) if r.message]
        if self.stopped and not self.results[-1].stopped:
            said.append(f"Stopped after window {len(self.results)} of {n}.")
        return "\n".join(said)


def _show(bar, where, sizes, callback, step):
    """Moves the bar on by a step, and asks the caller's callback whether the run goes on."""
    height, width = sizes[step.level]
    if not bar.disable:
        bar.set_postfix_str(where + step.in_short)
    bar.update(height * width)
    return None if callback is None else callback(step)


def _check_two(photo, mask):
    are_files = all(isinstance(source, (str, os.PathLike)) and os.path.isfile(source) for source in (photo, mask))
    if photo is mask or are_files and os.path.samefile(photo, mask):
        raise ValueError(f"mask is {name_of(mask)}, the photo itself; expected another picture, white where the hole is")


def _check_size(hole, photo):
    size, wanted = hole.shape[::-1], photo.size
    if size == wanted:
        return
    given = "mask is {} px wide and {} px high, {} is {} px wide and {} px high".format(*size, photo.name, *wanted)
    if size == photo.stored_size:
        raise ValueError(f"{given} when it is turned upright, as its EXIF data say; expected a mask of the upright photo")
    raise ValueError(f"{given}; expected the same")


def _free_name(output):
    """``name.stopped.png`` beside ``name.png``, or ``name.stopped2.png`` and so on where that is there already."""
    output = Path(output)
    names = (output.with_name(f"{output.stem}.stopped{n}{output.suffix}") for n in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))
