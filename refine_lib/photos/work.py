"""The filling of a photo's holes, window by window."""

import warnings
from functools import partial

import numpy as np
import scipy.ndimage
import torch
from tqdm.auto import tqdm

from refine_lib.networks.registry import why_not_split
from refine_lib.photos.deep import as_image
from refine_lib.photos.holes import blended
from refine_lib.photos.pixels import to_image, to_pixels
from refine_lib.photos.plain import plain_inpaint
from refine_lib.photos.windows import Window
from refine_lib.pyramid import level_sizes
from refine_lib.refine import NothingToRefine, multiscale_inpaint
from refine_lib.result import BAR, work_of


class Work:
    """A photo whose holes are filled. Each window sees what the earlier ones filled."""

    def __init__(self, image, hole, guide=None):
        pixels = np.asarray(image)
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        self.given = {2: pixels[..., 0], 4: pixels[..., :3]}.get(channels, pixels)
        self.alpha = pixels[..., -1] if channels in (2, 4) else None
        self.colors = self.given.copy()
        self.hole, self.filled = hole, np.zeros_like(hole)
        self.shows_through = False  # what was in the holes, everywhere
        hidden = np.zeros_like(hole) if self.alpha is None else (self.alpha == 0) & ~hole
        if hidden.any() and not hidden.all():  # colors that nobody sees are not known: the nearest seen ones stand in
            nearest = scipy.ndimage.distance_transform_edt(self.alpha == 0, return_distances=False, return_indices=True)
            self.colors[hidden] = self.given[tuple(np.asarray(nearest)[:, hidden])]
        self.windows: list[Window] = []  # and owner, as plan_windows gives them
        self.owner = np.zeros(hole.shape, np.int32)
        self.results, self.stopped, self.guide = [], False, guide

    def run(self, model, settings, callback, title):
        """Runs ``multiscale_inpaint`` on each window, with a bar over them all, unless title is None.

        Where the network cannot be refined, it runs ``plain_inpaint``.
        """
        scale = settings["smallest_scale"]
        sizes = [self.guide.levels(w, scale) if self.guide else level_sizes(*w.size, scale) for w in self.windows]
        fill = partial(multiscale_inpaint, **settings)
        if why_not_split(model):
            sizes, fill = [[w.size] for w in self.windows], partial(plain_inpaint, speed=settings["speed"])
        work = [sum(work_of(levels, settings["n_iters"], getattr(model, "n_steps", 1))) for levels in sizes]
        with tqdm(total=sum(work), desc=title, bar_format=BAR, leave=None, disable=title is None) as bar:
            try:
                for i, window in enumerate(() if self.stopped else self.windows):
                    where = f"window {i + 1}/{len(self.windows)}, " * (len(self.windows) > 1)
                    guided = self.guide.settings(window, sizes[i], self.given, self.hole) if self.guide else {}
                    self._compute(window, partial(fill, model=model, **guided), partial(_show, bar, where, sizes[i], callback))
                    if self.stopped:
                        break
                    bar.update(sum(work[: i + 1]) - bar.n)  # a level with nothing to match is over at once
            except KeyboardInterrupt:  # between two steps
                if not self.results:
                    raise
                self.stopped = True

    def _compute(self, window, fill, callback):
        unknown = self.hole[window.part] & ~self.filled[window.part]
        image, mask = to_image(self.colors[window.part]), torch.from_numpy(unknown)[None, None].float()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingToRefine)  # said once for the whole photo
            try:
                result = fill(image, mask, callback=callback, progress=False)
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

    def image(self, share, soft_edge):
        """The photo with what is filled so far laid over it, as ``Photo.image`` is. ``share`` is as in ``blended``."""
        filled = self.filled
        if soft_edge and not filled.all():
            share = (np.asarray(scipy.ndimage.distance_transform_edt(filled)) / (soft_edge + 1)).clip(max=1)
            self.shows_through = bool(filled.any() and share.max() < 1)
        self.colors[~filled] = self.given[~filled]
        colors = blended(self.colors, self.given, filled, share, self.alpha)
        if self.alpha is not None:
            colors = np.dstack([colors, np.where(filled, np.iinfo(colors.dtype).max, self.alpha)]).astype(colors.dtype)
        return as_image(colors)

    def message(self, threshold, brightest):
        """What the runs have to say, a sentence or more each. It is empty where all holes were refined."""
        if not self.hole.any():
            most = f" (its brightest is {brightest:.1%})" * bool(brightest)
            return f"The mask has no hole, nothing above {threshold:.0%} of white{most}: the photo comes back as it is."
        n = len(self.windows)
        said = [f"Window {i} of {n}: " * (n > 1) + r.message for i, r in enumerate(self.results, start=1) if r.message]
        if self.stopped and not (self.results and self.results[-1].stopped):
            said.append(f"Stopped after window {len(self.results)} of {n}.")
        return "\n".join(said)


def _show(bar, where, sizes, callback, step):
    """Moves the bar on by a step, and asks the caller's callback whether the run goes on."""
    height, width = sizes[step.level]
    if not bar.disable:
        bar.set_postfix_str(where + step.in_short)
        if step.n_levels == 1 and ":" in step.message:  # how long all passes take
            bar.write(step.message)
    bar.update(height * width)
    return None if callback is None else callback(step)
