"""The paper: Algorithm 1, ``multiscale_inpaint`` and ``predict_and_refine``.

Kulshreshtha, Pugh, Jiddi, "Feature Refinement to Improve High Resolution Image Inpainting" (2022, arXiv 2206.13644).
"""

import warnings

import torch
import torch.nn.functional as F

from refine_lib.checks import check_image_and_mask, check_inpainted_low_res, check_settings, check_smallest_scale
from refine_lib.featuremap import as_leaves
from refine_lib.masks import erode, paste
from refine_lib.probe import check_model, device_of
from refine_lib.pyramid import build_pyramid, downscale, resize, whole_hole
from refine_lib.steps import NOTHING_TO_MATCH, InpaintedLevel, Recorder, Result


class NothingToRefine(UserWarning):
    """The run is over, and there was nothing to refine: the message says why, and what would change it."""


def multiscale_inpaint(
    image, mask, model, smallest_scale=512, n_iters=15, lr=0.002, erosion=15, loss="paper", callback=None, progress=True
):
    """Fills a hole in a large picture: plainly at the smallest size, then refined at each size up to the full one.

    Args:
        image: (B, 3, H, W) in [0, 1], float32 or float64, H and W at least 16. What is in the hole is not looked at.
        mask: (B, 1, H, W), 1 = hole, 0 = known.
        model: a split network, from ``load_network`` or ``split_network``; the computation runs on its device.
        smallest_scale: the size that the network was trained at, in pixels.
        n_iters: updates of the featuremap at each level.
        lr: learning rate of Adam.
        erosion: diameter in pixels by which the hole is eroded for the loss, at the size of the level below.
        loss: ``"paper"``, or ``"code"`` for the authors' code's term on known pixels beside it.
        callback: called with a ``Step`` for each iteration. Returning False (anything false but None) stops the run, which
            then returns what it has.
        progress: whether to show a progress bar.

    Returns:
        A ``Result``; ``.image`` is the filled picture.

    Raises:
        TypeError, ValueError: where an argument is not as above, before any work is done.
        FloatingPointError: where the loss is no longer finite.

    Warns:
        NothingToRefine: where there was nothing to refine.

    Source: Algorithm 1, ``multiscale_inpaint``.
    """
    check_image_and_mask(image, mask)
    check_smallest_scale(smallest_scale)
    check_settings(lr, n_iters, erosion, loss, callback)
    check_model(model, image.dtype)
    image, mask, device = image.detach(), mask.detach(), device_of(model, image.device)
    pyramid = build_pyramid(image.to(device), mask.to(device), smallest_scale)
    recorder = Recorder(callback, [level.size for level in pyramid], n_iters, progress)

    levels, inpainted = [], None
    try:
        for recorder.level, level in enumerate(pyramid if mask.any() else []):
            if inpainted is None:
                inpainted = _plain(level.image, level.mask, model)
                recorder.step(0, 0, None, inpainted, "plain pass", device)
            else:
                inpainted = predict_and_refine(
                    level.image, level.mask, inpainted, model, lr, n_iters, erosion, loss, callback=recorder
                )
            if recorder.finished_level():
                levels.append(InpaintedLevel(level.image, level.mask, inpainted))
            if recorder.stopped:
                break
    except KeyboardInterrupt:
        if recorder.latest is None:
            raise
        recorder.stopped = True
    finally:
        recorder.close()

    if recorder.stopped:  # what there is, enlarged where the run did not reach the full size
        inpainted = resize(recorder.latest, image.shape[-2:])
    elif inpainted is None:
        inpainted = pyramid[-1].image.clone()
    result = Result(
        image=paste(inpainted.to(image.device), image, mask),
        mask=mask,
        levels=levels,
        steps=recorder.steps,
        n_levels=len(pyramid),
        stopped=recorder.stopped,
        _make_plain=lambda: _plain(image.to(device), mask.to(device), model).to(image.device),
    )
    result.message = _explain(result, mask, smallest_scale, erosion, loss)
    if result.message and not result.stopped:
        warnings.warn(result.message, NothingToRefine, stacklevel=2)
    return result


def predict_and_refine(image, mask, inpainted_low_res, model, lr=0.002, n_iters=15, erosion=15, loss="paper", callback=None):
    """Fills a hole so that the picture, downscaled, agrees with the smaller one: by optimising the featuremap z.

    Args:
        image, mask, model, lr, n_iters, erosion, loss, callback: as in ``multiscale_inpaint``.
        inpainted_low_res: the filled picture of half the size, (B, 3, H // 2, W // 2).

    Returns:
        The filled picture, (B, 3, H, W); pixels outside the hole are the image's, bit for bit. Where the eroded hole is
        empty there is nothing to match: the featuremap stays as the front made it.

    Source: Algorithm 1, ``predict_and_refine``.
    """
    recorder = callback
    if not isinstance(recorder, Recorder):  # called by itself: multiscale_inpaint, which passes its Recorder, has checked all
        check_image_and_mask(image, mask)
        check_settings(lr, n_iters, erosion, loss, callback)
        check_inpainted_low_res(inpainted_low_res, image)
        check_model(model, image.dtype, image.device)
        recorder = Recorder(callback, [inpainted_low_res.shape[-2:], image.shape[-2:]], n_iters)
        image, mask, inpainted_low_res = image.detach(), mask.detach(), inpainted_low_res.detach()

    height, width = image.shape[-2:]
    eroded = erode(whole_hole(mask, inpainted_low_res.shape[-2:]), erosion)
    to_match = eroded.flatten(1).any(dim=1)  # (B,): the pictures of the batch with a hole left to match
    if loss == "paper" and not to_match.any():
        n_iters = 0

    with torch.no_grad():
        leaves, z = as_leaves(model.front(image, mask))
    adam = torch.optim.Adam(leaves, lr=lr)
    for iteration in range(n_iters + 1):
        with torch.set_grad_enabled(iteration < n_iters):
            with_padding = model.rear(z)
            prediction = with_padding[..., :height, :width]
            losses = masked_l1(downscale(prediction), inpainted_low_res, eroded)
            if loss == "code":
                losses = losses + known_l1(with_padding, image, mask)
            total = losses.sum()  # not a mean, so that no picture's step depends on its batch mates
        if not total.isfinite():
            raise FloatingPointError(f"the loss is no longer finite in iteration {iteration}; lr is {lr}, try a smaller one")

        inpainted = paste(prediction.detach(), image, mask)
        value, message = (losses[to_match].mean().item(), "") if to_match.any() else (None, NOTHING_TO_MATCH)
        goes_on = recorder.step(iteration, n_iters, value, inpainted, message, image.device)
        if not goes_on or iteration == n_iters:
            return inpainted

        adam.zero_grad()
        total.backward()
        adam.step()


def masked_l1(a, b, mask):
    """Mean absolute difference where the mask is 1, for each picture of the batch; 0 where it is 1 nowhere.

    Shape: a and b (B, C, H, W), mask (B, 1, H, W) -> (B,).

    Source: the loss of Algorithm 1, ``predict_and_refine``.
    """
    count = a.shape[1] * mask.sum(dim=(1, 2, 3))
    return ((a - b).abs() * mask).sum(dim=(1, 2, 3)) / count.clamp(min=1)


def known_l1(prediction, image, mask):
    """Mean absolute difference on the known pixels, for each picture of the batch: a term of the authors' code.

    The prediction may have the network's padding, which that code counts: image and mask are reflected to its size.

    Shape: prediction (B, 3, H + down, W + right), image (B, 3, H, W), mask (B, 1, H, W) -> (B,).
    """
    down, right = (p - i for p, i in zip(prediction.shape[-2:], image.shape[-2:], strict=True))
    image, mask = (F.pad(t, (0, right, 0, down), mode="reflect") for t in (image, mask))
    return masked_l1(prediction, image, 1 - mask)


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
