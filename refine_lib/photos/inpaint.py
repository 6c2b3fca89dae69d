"""A photo and a mask in, the filled photo out: files as cameras and editors write them, of any size that memory allows."""

import itertools
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from refine_lib.checks import as_integer, as_number, check_choice, check_smallest_scale
from refine_lib.device import pick_device, plainly
from refine_lib.fast.memory import HELD_PER_BYTE, Budget, available_memory, bytes_per_pixel
from refine_lib.fast.speed import sped_up
from refine_lib.masks import erode
from refine_lib.networks import load_network, settings_for
from refine_lib.networks.probe import check_model, device_of
from refine_lib.networks.registry import why_not_split
from refine_lib.optimizers import OPTIMIZERS, PRESETS
from refine_lib.photos.canvas import FALLS_WITH_DISTANCE, as_extent, extended
from refine_lib.photos.files import LeftOut, Photo, check_holds, check_output, check_quality, read_photo, write_photo
from refine_lib.photos.guides import Guide, is_network, small_and_filled
from refine_lib.photos.holes import Hole, check_soft, check_two, read_hole
from refine_lib.photos.opened import Source
from refine_lib.photos.pixels import to_pixels
from refine_lib.photos.windows import WINDOWS, plan_windows
from refine_lib.photos.work import Work
from refine_lib.refine import NothingToRefine, check_settings
from refine_lib.result import Result, Step

MOST = 0.8  # of a photo: where more is hole, black and white may have changed places
KEPT_BYTES_PER_PIXEL = 70  # of the photo, in the results of its windows: pictures and masks of all levels


@dataclass(eq=False)
class InpaintedPhoto:
    """What ``inpaint_photo`` gives back. ``print(photo)`` says what was done.

    Attributes:
        image: the filled photo, a Pillow image, upright, in the photo's mode (a palette as its colors, black and white as
            gray). Where colors have 16 bits a channel it is an array (H, W, 3) or (H, W, 4) of uint16, since Pillow has no such
            mode. ``numpy.asarray(image)`` is the pixels of either.
        mask: the hole, grown by ``dilation``, and the area that ``extend`` added: (1, 1, H, W), 1 = hole.
        windows: the parts that were computed, or were to be, each as (top, bottom, left, right) in pixels.
        results: the ``Result`` of each window that was begun, with the window's picture.
        message: sentences where the hole is what was erased from a mask, where nothing was refined, in whole or in part, where
            nothing is known, where the photo was extended, where the run was stopped, or where EXIF data are damaged and were
            left out. Else it is empty.
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

    @property
    def in_short(self) -> str:
        """``computed 2 windows, 3% of the photo, in 12.3 s. Nothing was``: what was computed, and the message."""
        n, pixels = len(self.windows), sum((bottom - top) * (right - left) for top, bottom, left, right in self.windows)
        share = f"computed {n} window{'s' * (n != 1)}, {pixels / self.mask.numel():.0%} of the photo"
        return f"{share}, in {self.seconds:.1f} s. {self.message}".rstrip()

    def __str__(self):
        return "{}: {} px wide, {} px high, {}".format(self._photo.name, *self._photo.size, self.in_short)

    def __repr__(self):
        return f"<InpaintedPhoto: {self}>"


@plainly
def inpaint_photo(
    photo: Source,
    mask: Source | np.ndarray | None = None,
    output: str | os.PathLike | None = None,
    network: Any = "big-lama",
    *,
    smallest_scale: int | None = None,
    lr: float | None = None,
    preset: str = "paper",
    n_iters: int | None = None,
    erosion: int = 15,
    loss: str = "paper",
    optimizer: str | None = None,
    speed: str = "auto",
    threshold: float = 0.5,
    dilation: int = 0,
    soft_edge: float = 0,
    soft_mask: bool = False,
    invert: bool = False,
    windows: str = "auto",
    context: float = 0.5,
    guide: Source | torch.nn.Module | None = None,
    extend: Sequence[int] | None = None,
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
        mask: the same, of any mode, and of the photo's size; or an array (H, W), or the path of one, ``.npy``. It is bright
            where the hole is, or drawn there in one color on transparent ground, or it is the photo, or one color, from which
            the hole was erased. ``refine_lib.photos.holes.read_hole`` tells more. None takes the areas that were erased from
            the photo itself. What was under them is not used, and what is partly transparent at their rim is laid over what
            is filled, unless ``dilation`` or ``soft_edge`` is given. With ``extend`` None stands for no further hole.
        output: the path to write to. Its ending, as .jpg, .png, .tif or .webp, says the format. When a run is stopped, what it
            has is written beside it, as ``name.stopped.png``. None writes nothing.
        network: a name or path for ``load_network``, or a split network; or a ``LatentDiffusion``, which is not refined: it
            gives the plain picture, and of the settings below ``speed`` alone has to do with it, as in ``plain_inpaint``.
        smallest_scale, lr: as in ``multiscale_inpaint``. None is what suits the network that is named, and for a split
            network 512 and 0.002.
        preset: ``"paper"`` for 15 updates of Adam a level, ``"fast"`` for 5 of Polyak (``refine_lib.PRESETS``).
        n_iters, optimizer: as in ``multiscale_inpaint``. None is that of the preset.
        erosion, loss, speed, callback: as in ``multiscale_inpaint``. A ``Step`` speaks of the window that is computed.
        threshold: a share of white. What is brighter in the mask is hole. In a mask of 0 and 1 white is 1.
        dilation: radius in pixels of the disc by which the hole is grown.
        soft_edge: the width in pixels, from the grown hole's rim inwards, over which the old picture is blended into the new.
        soft_mask: whether the mask's gray is kept. All that is brighter than black is filled, and what is filled is laid over
            the photo with the mask's share of white: at 255 it is wholly new, at 128 half new. A lossy mask has noise that is
            gray, too. It goes without ``threshold``, ``dilation`` and ``soft_edge``.
        invert: whether black is the hole in place of white.
        windows: ``"auto"`` computes a window around each hole where that is less than half of the work, or where memory does
            not hold the whole photo, and else the whole. ``"always"`` computes windows, ``"never"`` the whole. The photo is
            never made smaller.
        context: what a window shows to each side of its hole, as a share of the hole's longer side. It is at least three
            quarters of ``smallest_scale``. Where memory does not hold that, the window shows less, but at least a quarter of
            ``smallest_scale``.
        guide: a picture of the photo, smaller or as large, with its hole filled by whatever else: a diffusion model, a person.
            It is a source as the photo is, of 8 bits a channel, upright and of the photo's proportions (with ``extend``, of the
            larger canvas). As in ``multiscale_inpaint`` it takes the place of the smallest levels. Or it is a network, or
            the name of one, as ``"latent-diffusion"``: then its plain prediction of the photo's smallest level is the guide.
        extend: (top, right, bottom, left), how many pixels the photo is to grow at each side. The new area is hole, and
            ``dilation`` does not grow it. The mask has the old size. Quality falls with the distance from what is known.
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
    given = {"smallest_scale": smallest_scale, "lr": lr, "n_iters": n_iters, "optimizer": optimizer}
    settings |= {name: value for name, value in given.items() if value is not None}
    settings |= {"preset": preset, "erosion": erosion, "loss": loss, "speed": speed}
    (threshold, dilation, soft_edge, context, extend), settings = check_request(
        threshold, dilation, soft_edge, windows, context, soft_mask, invert, extend, quality, callback=callback, **settings
    )
    if named:
        device = pick_device(device)
    else:
        if not why_not_split(network):
            check_model(network, torch.float32)
        if device is not None:
            raise ValueError(f"device is {device!r} and network is a split network; expected None: it stays where it is")
    if output is not None:
        check_output(output, overwrite, [one for one in (photo, mask, guide) if one is not None and not is_network(one)])
    check_two(photo, mask)
    given = read_photo(photo)
    is_drawn = mask is not None or not any(extend)
    drawn = read_hole(mask, given, invert) if is_drawn else Hole(np.zeros(given.size[::-1], np.float32))
    given, (top, right, bottom, left) = extended(given, extend), extend
    guided = None if guide is None or is_network(guide) else Guide(guide, (given.size[1], given.size[0]))
    if output is not None:
        check_holds(output, given)

    started = time.perf_counter()
    known = torch.from_numpy(drawn.share <= (0 if soft_mask or mask is None else threshold))[None, None].float()
    grown = 1 - erode(known, 2 * int(dilation) + 1)
    grown = F.pad(grown, (left, right, top, bottom), value=1)
    work, notes = Work(given.image, grown[0, 0].numpy() > 0, guided), []
    if grown.any():
        model = load_network(os.fspath(network), device, progress) if named else network
        if guide is not None and (why := why_not_split(model)):
            raise ValueError(f"guide is given, and a guide is refined. {why}")
        if is_network(guide):
            artist = load_network(guide, device, progress) if isinstance(guide, str) else guide
            shown = {"callback": callback, "progress": progress}
            small = small_and_filled(artist, work.colors, work.hole, settings["smallest_scale"], **shown)
            work.guide = Guide(Image.fromarray(to_pixels(small.image)), (given.size[1], given.size[0]))
            work.stopped = small.stopped
            notes.append(f"The guide: {small.note} {small.message}".rstrip())
            del artist
        available = available_memory(device_of(model, torch.device("cpu"))) - KEPT_BYTES_PER_PIXEL * grown.numel()
        budget = Budget(
            HELD_PER_BYTE * bytes_per_pixel(sped_up(model, speed, whole=loss == "code")[0], OPTIMIZERS[settings["optimizer"]]),
            max(available, 0),
        )
        work.windows, work.owner = plan_windows(
            work.hole, windows, context, settings["smallest_scale"], budget, settings["n_iters"]
        )
        work.run(model, settings, callback, Path(given.name).name if progress else None)

    share = drawn.share if soft_mask else 1 if mask is not None or dilation or any(extend) else 0  # of the new picture
    share = np.pad(share, ((top, bottom), (left, right)), constant_values=1) if soft_mask else share
    said = work.message(0 if soft_mask else threshold, drawn.share.max())
    whole = "The hole is the whole photo: there is nothing to go by." * bool(work.hole.all())
    image = work.image(share, soft_edge)
    notes = [
        *notes,
        drawn.message,
        whole,
        FALLS_WITH_DISTANCE * any(extend),
        said,
        *dict.fromkeys(r.note for r in work.results),
    ]
    if work.shows_through:
        notes.append("The soft edge is wider than the hole is deep: what was there shows through. A larger dilation covers it.")
    if mask is not None and not any(extend) and MOST < grown.mean() < 1:
        notes.append(f"{grown.mean():.0%} of the photo is hole. Where black is meant to be the hole, invert is wanted.")
    done = InpaintedPhoto(
        image=image,
        mask=grown,
        windows=[(w.top, w.bottom, w.left, w.right) for w in work.windows],
        results=work.results,
        message="\n".join(filter(None, [*notes, given.message])),
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
    threshold,
    dilation,
    soft_edge,
    windows,
    context,
    soft_mask,
    invert,
    extend,
    quality=None,
    preset="paper",
    smallest_scale=512,
    callback=None,
    speed="auto",
    **settings,
) -> tuple[tuple[float, int, float, float, tuple[int, ...]], dict[str, Any]]:
    """The numbers of ``inpaint_photo``, and its settings for ``multiscale_inpaint``. Raises unless all are in range."""

    def at_least_0(value, name, wanted):
        return as_number(value, name, lambda number: 0 <= number < math.inf, wanted)

    check_quality(quality)
    check_choice(preset, "preset", PRESETS)
    settings = PRESETS[preset] | settings
    scale = check_smallest_scale(smallest_scale)
    settings = check_settings(**settings, callback=callback, speed=speed) | {"smallest_scale": scale, "speed": speed}
    check_choice(windows, "windows", WINDOWS)
    share = "expected a share of white between 0 and 1"
    numbers = (
        as_number(threshold, "threshold", lambda number: 0 < number < 1, share),
        as_integer(dilation, "dilation", "pixels"),
        at_least_0(soft_edge, "soft_edge", "expected a width of 0 or more pixels"),
        at_least_0(context, "context", "expected 0 or more, a share of the hole's longer side"),
    )
    check_soft(soft_mask, invert, *numbers[:3])
    return (*numbers, as_extent(extend)), settings


def _free_name(output):
    """``name.stopped.png`` beside ``name.png``, or ``name.stopped2.png`` and so on where that is there already."""
    output = Path(output)
    names = (output.with_name(f"{output.stem}.stopped{n}{output.suffix}") for n in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))
