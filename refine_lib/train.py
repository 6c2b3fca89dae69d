"""Trains the embedded network from nothing, on pictures that the package draws: ``python -m refine_lib.train --minutes 50``.

The loss is L1 in the hole plus 0.3 of L1 outside it. What is kept is a moving average of the weights.
"""

import argparse
import math
import os
import time
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from refine_lib.device import pick_device
from refine_lib.masks import stroke_masks
from refine_lib.metrics import pooled_l1
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.weights import save_generator
from refine_lib.scenes import random_scenes

SEEDS_PER_RUN = 1_000_000_000  # seeds of this and above are the training's own: held-out scenes use smaller ones


def learning_rate(done, step, peak=2e-3, warm_up=200):
    """Rises over the first steps, then falls along a cosine to 0 at the end (``done`` is the share of the run, 0 to 1)."""
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def picture_batch(size, batch, seed, device):
    """Images (B, 3, size, size) and masks (B, 1, size, size) that no other seed gives."""
    return random_scenes(size, batch, seed, device), stroke_masks(size, batch, seed, device=device)


def hole_and_known_l1(prediction, image, mask):
    """Mean absolute error inside the holes and outside them."""
    return pooled_l1(prediction, image, mask), pooled_l1(prediction, image, 1 - mask)


def train(path, minutes=50.0, steps=None, size=64, batch=16, ngf=16, n_blocks=6, ratio=0.75, seed=0, device=None, peak=2e-3):
    """Trains a LaMa generator and writes its averaged weights; a checkpoint beside them lets a stopped run go on.

    Args:
        path: of the ``.safetensors`` to write. Beside it, ``.ckpt`` holds all that it takes to go on.
        minutes: length of the run; ignored where ``steps`` is given, with which a run is the same every time.
        size: of the training pictures, in pixels.

    Returns:
        The averaged network, in eval mode.

    Raises:
        FileExistsError: where there are weights at the path and no checkpoint beside them: nothing is written over.
    """
    device = pick_device(device)
    torch.manual_seed(seed)
    network = LamaGenerator(ngf, n_blocks, ratio).to(device, memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    adam = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=1e-4)
    checkpoint, step, seconds_before = Path(path).with_suffix(".ckpt"), 0, 0.0
    if Path(path).exists() and not checkpoint.exists():
        raise FileExistsError(f"path is {path}, which exists without a checkpoint to go on from; expected a new file")
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        adam.load_state_dict(state["adam"])
        step, seconds_before = state["step"], state["seconds"]

    started = time.monotonic()

    def save():
        state = {"network": network.state_dict(), "average": average.state_dict(), "adam": adam.state_dict()}
        part = checkpoint.with_suffix(".ckpt.part")
        torch.save(state | {"step": step, "seconds": seconds()}, part)
        os.replace(part, checkpoint)
        save_generator(average.module, path, trained_on=f"{step * batch} pictures of {size} px")

    def seconds():
        return seconds_before + time.monotonic() - started

    def share_done():
        return step / steps if steps else seconds() / (60 * minutes)

    smooth = None  # running mean of the error in the hole
    try:
        with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
            while share_done() < 1:
                for group in adam.param_groups:
                    group["lr"] = learning_rate(share_done(), step, peak)
                image, mask = picture_batch(size, batch, SEEDS_PER_RUN * (seed + 1) + step, device)
                seen = torch.cat([image * (1 - mask), mask], dim=1).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    prediction = network(seen)
                in_hole, known = hole_and_known_l1(prediction.float(), image, mask)
                adam.zero_grad()
                (in_hole + 0.3 * known).backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                adam.step()
                average.update_parameters(network)
                step += 1
                if step % 20 == 0:
                    smooth = in_hole.item() if smooth is None else 0.9 * smooth + 0.1 * in_hole.item()
                    bar.set_postfix_str(f"hole L1 {smooth:.4f}, {step * batch / 1000:.0f}k pictures")
                    bar.update(100 * min(share_done(), 1) - bar.n)
                if step % 500 == 0:
                    save()
    finally:  # stopped or done, nothing is lost
        save()
    return average.module.eval()


def main():
    parser = argparse.ArgumentParser(description="Train the embedded network on drawn scenes.")
    parser.add_argument("path", nargs="?", default="mini_lama.safetensors", help="weights to write")
    parser.add_argument("--minutes", type=float, default=50, help="length of the run (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="length in steps of the optimiser, in place of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
