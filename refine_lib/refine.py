"""The paper: Algorithm 1, ``multiscale_inpaint`` and ``predict_and_refine``.

Kulshreshtha, Pugh, Jiddi, "Feature Refinement to Improve High Resolution Image Inpainting" (2022, arXiv 2206.13644).
"""

import warnings

import torch

from refine_lib.checks import (
    check_finite,
    check_image_and_mask,
    check_inpainted_low_res,
    check_settings,
    check_smallest_scale,
)
from refine_lib.fast.plans import Plans
from refine_lib.loss import Agreement, known_l1
from refine_lib.masks import erode, paste
from refine_lib.networks.featuremap import as_leaves
from refine_lib.networks.probe import check_model, device_of
from refine_lib.optimizers import Polyak
from refine_lib.pyramid import build_pyramid, resize, whole_hole
from refine_lib.result import InpaintedLevel, Recorder, Result


class NothingToRefine(UserWarning):
    """The run is over, and there was nothing to refine: the message says why, and what would change it."""


def multiscale_inpaint(
    image,
    mask,
    model,
    smallest_scale=512,
    n_iters=15,
    lr=0.002,
    erosion=15,
    loss="paper",
    callback=None,
    progress=True,
    optimizer="adam",
    early_stop=None,
    speed="auto",
):
    """Fills a hole in a large picture: plainly at the smallest size, then refined at each size up to the full one.

    Args:
        image: (B, 3, H, W) in [0, 1], float32 or float64, H and W at least 16. What is in the hole is not looked at.
        mask: (B, 1, H, W), 1 = hole, 0 = known.
        model: a split network, from ``load_network`` or ``split_network``; the computation runs on its device.
        smallest_scale: the size that the network was trained at, in pixels.
        n_iters: updates of the featuremap at each level.
        lr: learning rate of Adam; Polyak's steps have none.
        erosion: diameter in pixels by which the hole is eroded for the loss, at the size of the level below.
        loss: ``"paper"``, or ``"code"`` for the authors' code's term on known pixels beside it.
        callback: called with a ``Step`` for each iteration. Returning False (anything false but None) stops the run, which
            then returns what it has.
        progress: whether to show a progress bar.
        optimizer: ``"adam"``, the paper's; or ``"polyak"``, which in 5 updates comes further than Adam in 15.
        early_stop: a level ends when its loss fell by less than this share of itself in two updates, e.g. 0.01; None: never.
        speed: ``"auto"`` for all that makes the run faster and changes the picture by rounding alone, ``"exact"`` for the
            network as it is, ``"mixed"`` for convolutions in bfloat16 as well (``refine_lib.fast.speed``).

    Returns:
        A ``Result``; ``.image`` is the filled picture.

    Raises:
        TypeError, ValueError: where an argument is not as above, before any work is done.
        FloatingPointError: where the loss is no longer finite.

    Warns:
        NothingToRefine: where there was nothing to refine.
        ShortOfMemory: where memory may not hold the run, or a GPU's did not.

    Source: Algorithm 1, ``multiscale_inpaint``.
    """
    check_image_and_mask(image, mask)
    check_smallest_scale(smallest_scale)
    check_settings(lr, n_iters, erosion, loss, callback, optimizer, early_stop, speed)
    check_model(model, image.dtype)
    image, mask, device = image.detach(), mask.detach(), device_of(model, image.device)
    pyramid = build_pyramid(image.to(device), mask.to(device), smallest_scale)
    recorder = Recorder(callback, [level.size for level in pyramid], n_iters, progress)
    plans = Plans(model, image, mask, speed, whole=loss == "code")
    settings = dict(lr=lr, n_iters=n_iters, erosion=erosion, loss=loss, optimizer=optimizer, early_stop=early_stop)

    levels, inpainted = [], None
    try:
        for recorder.level, level in enumerate(pyramid if mask.any() else []):
            if inpainted is None:
                inpainted = plans.run(_plain, level.image, level.mask)
                recorder.step(0, 0, None, inpainted, level.image, level.mask, "plain pass")
            else:
                inpainted = plans.run(predict_and_refine, level.image, level.mask, inpainted, callback=recorder, **settings)
            if recorder.finished_level():
                levels.append(InpaintedLevel(level.image, level.mask, inpainted.to(device)))
            if recorder.stopped:
                break
    except KeyboardInterrupt:
        if not recorder.steps:
            raise
        recorder.stopped = True
    finally:
        recorder.close()

    if recorder.stopped:  # what there is, enlarged where the run did not reach the full size
        inpainted = resize(recorder.latest(), image.shape[-2:])
    elif inpainted is None:
        inpainted = pyramid[-1].image.clone()
    result = Result(
        image=paste(inpainted.to(image.device), image, mask),
        mask=mask,
        levels=levels,
        steps=recorder.steps,
        n_levels=len(pyramid),
        speed=str(plans.plan),
        stopped=recorder.stopped,
        _make_plain=lambda: plans.run(_plain, image, mask).to(image.device),
    )
    explanation = _explain(result, mask, smallest_scale, erosion, loss)
    if explanation and not result.stopped:
        warnings.warn(explanation, NothingToRefine, stacklevel=2)
    result.message, result.note = explanation, plans.note
    return result


def predict_and_refine(
    image,
    mask,
    inpainted_low_res,
    model,
    lr=0.002,
    n_iters=15,
    erosion=15,
    loss="paper",
    callback=None,
    optimizer="adam",
    early_stop=None,
):
    """Fills a hole so that the picture, downscaled, agrees with the smaller one: by optimising the featuremap z.

    Args:
        image, mask, model, lr, n_iters, erosion, loss, callback, optimizer, early_stop: as in ``multiscale_inpaint``.
        inpainted_low_res: the filled picture of half the size, (B, 3, H // 2, W // 2).

    Returns:
        The filled picture, (B, 3, H, W); pixels outside the hole are the image's, bit for bit. Where the eroded hole is
        empty there is nothing to match: the featuremap stays as the front made it.

    Source: Algorithm 1, ``predict_and_refine``.
    """
    recorder = callback
    if not isinstance(recorder, Recorder):  # called by itself: multiscale_inpaint, which passes its Recorder, has checked all
        check_image_and_mask(image, mask)
        check_settings(lr, n_iters, erosion, loss, callback, optimizer, early_stop)
        check_inpainted_low_res(inpainted_low_res, image)
        check_model(model, image.dtype, image.device)
        recorder = Recorder(callback, [inpainted_low_res.shape[-2:], image.shape[-2:]], n_iters)
        image, mask, inpainted_low_res = image.detach(), mask.detach(), inpainted_low_res.detach()

    height, width = image.shape[-2:]
    eroded = erode(whole_hole(mask, inpainted_low_res.shape[-2:]), erosion)
    agreement = Agreement(inpainted_low_res, eroded, (height, width))
    if loss == "paper" and not agreement.possible:
        n_iters = 0

    reads_at_once = image.device.type == "cpu"  # elsewhere to read a number is to wait for the device
    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, mask))
    moves = torch.optim.Adam(leaves, lr=lr, fused=True) if optimizer == "adam" else Polyak(leaves, n_iters)
    for iteration in range(n_iters + 1):
        with torch.set_grad_enabled(iteration < n_iters):
            with_padding = model.rear(z)
            prediction = with_padding[..., :height, :width]
            losses = agreement(prediction)
            if loss == "code":
                losses = losses + known_l1(with_padding, image, mask)
            total = losses.sum()  # not a mean, so that no picture's step depends on its batch mates
        if reads_at_once:
            check_finite(total, iteration, lr)

        goes_on = recorder.step(iteration, n_iters, agreement.mean(losses), prediction.detach(), image, mask)
        if not goes_on or iteration == n_iters or (early_stop is not None and recorder.settles(early_stop)):
            check_finite(total, iteration, lr)
            return paste(prediction.detach(), image, mask)

        moves.zero_grad()
        total.backward()
        moves.step(losses.detach)


@torch.no_grad()
def _plain(image, mask, model):
    return paste(model(image, mask), image, mask)


def _explain(result, mask, smallest_scale, erosion, loss):
    """A sentence on why nothing was refined, or the run was stopped; empty where all went its way."""
    if result.stopped:
        last = result.steps[-1]
        return f"Stopped at level {last.level + 1} of {last.n_levels}, iteration {last.iteration} of {last.n_iters}."
    if not mask.any():
        return "The mask has no hole (no pixel is 1): the picture comes back as it is."
    if result.n_levels == 1:
        short_side = min(mask.shape[-2:])
        return (
            f"Nothing was refined: the short side, {short_side} px, is not much larger than smallest_scale,"
            f" {smallest_scale} px, so there is one level and no smaller picture to agree with."
            " A larger picture or a smaller smallest_scale would give more levels."
        )
    thin = [f"{level}" for level, losses in enumerate(result.losses, start=2) if not losses]
    if thin:
        what = "Nothing was refined" if loss == "paper" else "Nothing but the known pixels was matched"
        return (
            f"{what} at level {', '.join(thin)} of {result.n_levels}: eroded by {erosion} px, the hole is empty."
            " A smaller erosion would leave something to match."
        )
    return ""
