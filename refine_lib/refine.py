"""The paper: Algorithm 1, ``multiscale_inpaint`` and ``predict_and_refine``.

Kulshreshtha, Pugh, Jiddi, "Feature Refinement to Improve High Resolution Image Inpainting" (2022, arXiv 2206.13644).
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from refine_lib import checks
from refine_lib.device import plainly
from refine_lib.fast.plans import Plans
from refine_lib.loss import Agreement
from refine_lib.masks import erode, paste
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.probe import check_model
from refine_lib.networks.split import SplitNetwork
from refine_lib.optimizers import OPTIMIZERS
from refine_lib.pyramid import Pyramid, build_pyramid, fit_guide, level_of_guide, resize, whole_hole
from refine_lib.result import InpaintedLevel, Recorder, Result, Step, why_nothing_was_refined

Callback = Callable[[Step], Any]


class NothingToRefine(UserWarning):
    """Nothing was refined, at one level or at all. The message says why, and what would help."""


@plainly
def multiscale_inpaint(
    image: torch.Tensor,
    mask: torch.Tensor,
    model: SplitNetwork,
    smallest_scale: float = 512,
    n_iters: int = 15,
    lr: float = 0.002,
    erosion: int = 15,
    loss: str = "paper",
    callback: Callback | None = None,
    progress: bool = True,
    optimizer: str = "adam",
    early_stop: float | None = None,
    speed: str = "auto",
    guide: torch.Tensor | None = None,
) -> Result:
    """Fills a hole in a large picture: one plain pass at the smallest size, then a refinement at each larger size.

    Args:
        image: (B, 3, H, W) in [0, 1], float32 or float64, H and W at least 16. What is in the hole is not looked at.
        mask: (B, 1, H, W), 1 = hole, 0 = known.
        model: a split network, from ``load_network`` or ``split_network``. The computation runs on its device.
        smallest_scale: the size that the network was trained at, in pixels. The short side of the smallest level is about it.
        n_iters: updates of the featuremap at each level.
        lr: the optimizer's learning rate. Polyak's steps have none.
        erosion: diameter in pixels of the disc that erodes the hole for the loss, at the size of the level below.
        loss: ``"paper"``, or ``"code"``, which adds a term of the authors' code: L1 on the known pixels.
        callback: called with a ``Step`` for each iteration. A false value other than None stops the run. The result is then
            the latest picture, in full size.
        progress: whether to show a progress bar.
        optimizer: ``"adam"``, the paper's; or ``"polyak"``, whose loss, the paper's, is lower after 5 updates than Adam's
            after 15 at its rate of 0.002.
        early_stop: ends a level whose loss fell by less than this share of itself, e.g. 0.01, in the last two updates. None
            ends none.
        speed: ``"auto"`` for all that makes the run faster and changes the picture by rounding alone, ``"exact"`` for the
            network as it is, ``"mixed"`` for convolutions in bfloat16 as well (``refine_lib.fast.speed``).
        guide: the picture, smaller or as large, with its hole filled by whatever else: (B, 3, h, w) in [0, 1], of the image's
            proportions, dtype and device. It takes the place of the plain pass, and of all levels that are not larger. Where
            no level has its size, it is downscaled to the next smaller one, or enlarged to the smallest: a lower
            ``smallest_scale`` avoids that. Its pixels outside the hole are not looked at.

    Returns:
        A ``Result``; ``.image`` is the filled picture.

    Raises:
        TypeError, ValueError: where an argument is not as above, before any work is done.
        FloatingPointError: where the loss is no longer finite. On a GPU this is noticed at the end of a level.

    Warns:
        NothingToRefine: where there was nothing to refine.
        NotSpedUp: where ``speed`` is ``"mixed"`` and cannot be had with this network, or is no faster on this processor.
        ShortOfMemory: where memory may be too small for the run, or a GPU's was and the run was computed in another way.

    Example:
        >>> from refine_lib import load_network, multiscale_inpaint, random_scenes, stroke_masks
        >>> image, mask = random_scenes(128, seed=1), stroke_masks(128, seed=1)
        >>> result = multiscale_inpaint(image, mask, load_network("mini-lama"), smallest_scale=64, progress=False)
        >>> result.image.shape, result.n_levels
        (torch.Size([1, 3, 128, 128]), 2)

    Source: Algorithm 1, ``multiscale_inpaint``.
    """
    checks.check_image_and_mask(image, mask)
    smallest_scale = checks.check_smallest_scale(smallest_scale)
    settings = check_settings(lr, n_iters, erosion, loss, callback, optimizer, early_stop, speed)
    if guide is not None:
        checks.check_guide(guide, image)
    check_model(model, image.dtype, default=image.device)
    image, mask = image.detach(), mask.detach()
    # How all is computed: fast, and within the memory that is there. It changes nothing of what follows.
    plans = Plans(model, image, mask, OPTIMIZERS[optimizer], speed, whole=loss == "code")
    pyramid = plans.run(_pyramid, image, mask, smallest_scale=smallest_scale)
    if guide is not None:
        pyramid = Pyramid(pyramid[level_of_guide(guide.shape[-2:], [level.size for level in pyramid]) :])
        guide = fit_guide(guide.detach(), image, mask, pyramid[0].size)
    recorder = Recorder(callback, [level.size for level in pyramid], settings["n_iters"], progress)

    levels: list[InpaintedLevel] = []
    inpainted: Any = None  # the result of the smaller level; None before the first
    with recorder:
        for level in pyramid if mask.any() else []:
            recorder.begin_level()
            if inpainted is not None:
                inpainted = plans.run(_predict_and_refine, level.image, level.mask, inpainted, recorder=recorder, **settings)
            elif guide is None:
                inpainted = plans.run(_plain, level.image, level.mask)
                recorder.step(0, 0, None, inpainted, level.image, level.mask, "plain pass")
            else:
                inpainted = paste(guide.to(level.image.device), level.image, level.mask)
                recorder.step(0, 0, None, inpainted, level.image, level.mask, "guide")
            if recorder.finished_level():
                levels.append(InpaintedLevel(level.image, level.mask, inpainted.to(level.image.device)))
            if recorder.stopped:
                break

    if recorder.stopped:  # the latest picture, enlarged where the run did not reach the full size
        inpainted = resize(recorder.latest(), image.shape[-2:])
    result = Result(
        image=image.clone() if inpainted is None else paste(inpainted.to(image.device), image, mask),
        mask=mask,
        levels=levels,
        steps=recorder.steps,
        n_levels=len(pyramid),
        speed=str(plans.plan),
        note=plans.note,
        stopped=recorder.stopped,
        _make_plain=lambda: plans.run(_plain, image, mask).to(image.device),
    )
    erosion, n_iters = settings["erosion"], settings["n_iters"]
    result.message = why_nothing_was_refined(result, smallest_scale, erosion, loss, guide is not None, n_iters)
    if result.message and not result.stopped:
        warnings.warn(result.message, NothingToRefine, stacklevel=3)
    return result


@plainly
def predict_and_refine(
    image: torch.Tensor,
    mask: torch.Tensor,
    inpainted_low_res: torch.Tensor,
    model: SplitNetwork,
    lr: float = 0.002,
    n_iters: int = 15,
    erosion: int = 15,
    loss: str = "paper",
    callback: Callback | None = None,
    optimizer: str = "adam",
    early_stop: float | None = None,
) -> torch.Tensor:
    """Fills a hole by optimizing the featuremap z, until the prediction, downscaled, agrees with the smaller picture.

    Args:
        image, mask, model, lr, n_iters, erosion, loss, callback, optimizer, early_stop: as in ``multiscale_inpaint``.
        inpainted_low_res: the filled picture of half the size, (B, 3, H // 2, W // 2).

    Returns:
        The filled picture, (B, 3, H, W). Pixels outside the hole are the image's, bit for bit. Where the eroded hole is
        empty, the paper's loss leaves z as the front made it; that of the authors' code still fits the known pixels.

    Raises:
        TypeError, ValueError: where an argument is not as above, before any work is done.
        FloatingPointError: where the loss is no longer finite.

    Example:
        >>> from refine_lib import downscale, load_network, predict_and_refine, random_scenes, stroke_masks
        >>> image, mask = random_scenes(128, seed=1), stroke_masks(128, seed=1)
        >>> losses = []
        >>> model, keep = load_network("mini-lama"), lambda step: losses.append(step.loss)
        >>> filled = predict_and_refine(image, mask, downscale(image), model, lr=0.005, erosion=5, callback=keep)
        >>> len(losses), losses[-1] < losses[0] / 2
        (16, True)

    Source: Algorithm 1, ``predict_and_refine``.
    """
    checks.check_image_and_mask(image, mask)
    settings = check_settings(lr, n_iters, erosion, loss, callback, optimizer, early_stop)
    checks.check_inpainted_low_res(inpainted_low_res, image)
    check_model(model, image.dtype, image.device, default=image.device)
    recorder = Recorder(callback, [inpainted_low_res.shape[-2:], image.shape[-2:]], settings["n_iters"], level=1)
    return _predict_and_refine(image.detach(), mask.detach(), inpainted_low_res.detach(), model, recorder, **settings)


def _predict_and_refine(image, mask, inpainted_low_res, model, recorder, lr, n_iters, erosion, loss, optimizer, early_stop):
    # Where to compare with the smaller picture: inside the hole, away from its edge. Without such a place z does not move.
    eroded = erode(whole_hole(mask, inpainted_low_res.shape[-2:]), erosion)
    agreement = Agreement(inpainted_low_res, eroded, image.shape[-2:], known=(image, mask) if loss == "code" else None)
    n_iters = n_iters if agreement.moves_z else 0

    # z, which starts as the front's output, is all that moves.
    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, mask))
    optimizer = OPTIMIZERS[optimizer](leaves, lr, n_iters)

    for iteration in range(n_iters + 1):
        # How far the prediction, downscaled, is from the smaller picture. The pass after the last update needs no gradient.
        with torch.set_grad_enabled(iteration < n_iters):
            prediction = model.rear(z)
            losses = agreement(prediction)
            total = losses.sum()  # a mean would make the step of each picture depend on the size of the batch
        recorder.step(iteration, n_iters, agreement.mean(losses), prediction.detach(), image, mask)
        is_last = iteration == n_iters or recorder.ends_level(early_stop)
        checks.check_finite(losses, iteration, lr, wait=is_last)
        if is_last:
            break

        # One update of z.
        optimizer.zero_grad()
        total.backward()
        optimizer.step(losses.detach())

    # The composite: the hole from the network, the rest from the image.
    return paste(prediction.detach(), image, mask)


def _pyramid(image, mask, model, smallest_scale):
    return build_pyramid(image, mask, smallest_scale)


@plainly
@torch.no_grad()
def _plain(image, mask, model):
    return paste(model(image, mask), image, mask)


def check_settings(
    lr: float,
    n_iters: int,
    erosion: int,
    loss: str,
    callback: Callback | None,
    optimizer: str = "adam",
    early_stop: float | None = None,
    speed: str = "auto",
) -> dict[str, Any]:
    """Those settings of ``multiscale_inpaint`` that its levels take, by name. Raises unless all are in range."""
    numbers = checks.check_numbers(lr, n_iters, erosion, early_stop)
    checks.check_callback(callback)
    checks.check_choice(loss, "loss", checks.LOSSES)
    checks.check_choice(optimizer, "optimizer", OPTIMIZERS)
    checks.check_choice(speed, "speed", checks.SPEEDS)
    return {**numbers, "loss": loss, "optimizer": optimizer}
