"""Trains the embedded network of the first edition: ``python -m refine_lib.workshop.train_first --minutes 50``.

The loss is L1 in the hole plus 0.3 of L1 outside it. What is kept is a moving average of the weights.
"""

import argparse
import csv
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from refine_lib.device import pick_device
from refine_lib.masks import paste
from refine_lib.metrics import pooled_l1
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.registry import save_generator
from refine_lib.photos.pixels import to_pixels
from refine_lib.scenes import random_scenes
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.muon import Muon

SEEDS_PER_RUN = 1_000_000_000  # seeds of this and above are the training's own: held-out scenes use smaller ones
WATCHED_SEED = 999_000_000  # of the unseen pictures that a run is watched with


def rate(done, step, warm_up=100, fall=0.5):
    """Share of the learning rate: rises over the first steps, stays, and falls to 0 over the last part of the run.

    Args:
        done: share of the run that is over, 0 to 1.
        step: steps of the optimizer made so far.
        fall: share of the run that the fall takes.
    """
    return min(1.0, (step + 1) / warm_up, max(1 - done, 0.0) / fall)


def picture_batch(size, batch, seed, device, close_ups=0.0):
    """Images (B, 3, size, size) and masks (B, 1, size, size) that no other seed gives: thick strokes, a quarter others.

    A network that has seen close-ups knows how the inside of a large pattern looks: what refinement asks of it later.
    """
    image = random_scenes(size, batch, seed, device, close_ups=close_ups)
    n_others = batch // 4
    thick = stroke_masks(size, batch - n_others, seed, "thick", device)
    others = stroke_masks(size, n_others, seed, ("thin", "medium")[seed % 2], device)
    return image, torch.cat([thick, others])


def fill(network, image, mask):
    """The prediction (B, 3, H, W) for a picture whose hole is hidden from the network."""
    return network(torch.cat([image * (1 - mask), mask], dim=1).contiguous(memory_format=torch.channels_last))


def hole_and_known_l1(prediction, image, mask):
    """Mean absolute error inside the holes and outside them."""
    return pooled_l1(prediction, image, mask), pooled_l1(prediction, image, 1 - mask)


def optimizers(network):
    """Muon for the hidden convolutions, AdamW for the rest, each group with the rate it starts from as ``peak``."""
    first, *_, last = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    ends = {id(first.weight), id(last.weight)}
    hidden = [p for p in network.parameters() if p.ndim == 4 and id(p) not in ends]
    rest = [p for p in network.parameters() if p.ndim != 4 or id(p) in ends]
    chosen = [Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-4)]
    for group in (group for one in chosen for group in one.param_groups):
        group["peak"] = group["lr"]
    return chosen


def move_average(averages, values, n):
    """Moves averages towards the newest values: over about the last 1000 steps, over a tenth of the run while it is young."""
    share = max(0.001, 10 / (int(n) + 10))
    for average, value in zip(averages, values, strict=True):
        average.copy_(average + share * (value - average))  # counts of batches are whole numbers: lerp refuses them


class Run:
    """What a training consists of, and its place on disk: weights, checkpoint, log and preview beside one another."""

    def __init__(self, path, network, device, settings):
        self.path, self.network, self.device, self.settings = Path(path), network, device, settings
        self.average = AveragedModel(network, multi_avg_fn=move_average, use_buffers=True)
        self.optimizers = optimizers(network)
        self.step, self.seconds_before, self.log = 0, 0.0, []
        self.smooth = None  # running mean of the error in the hole
        self.checkpoint, self.csv, self.preview = (self.path.with_suffix(suffix) for suffix in (".ckpt", ".csv", ".png"))
        if self.path.suffix != ".safetensors" or not self.path.parent.is_dir():
            raise ValueError(f"path is {path}; expected a file named .safetensors in a folder that exists")
        if self.checkpoint.exists():
            self._go_on()
        else:
            for file in (self.path, self.csv, self.preview):
                if file.exists():
                    raise FileExistsError(f"{file} exists without a checkpoint to go on from; expected path to be a new file's")
        self._started = time.monotonic()

    def _go_on(self):
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["settings"] != self.settings:
            raise ValueError(f"{self.checkpoint} is of a run with {state['settings']}; expected these, not {self.settings}")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds_before = state["step"], state["seconds"]
        self.smooth, self.log = state["smooth"], state["log"]

    @property
    def seconds(self):
        return self.seconds_before + time.monotonic() - self._started

    @property
    def pictures(self):
        """Seen so far."""
        return self.step * self.settings["batch"]

    def save(self):
        """Writes the checkpoint and the averaged weights, each in one go: an interruption leaves what was there."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "settings": self.settings,
            "step": self.step,
            "seconds": self.seconds,
            "smooth": self.smooth,
            "log": self.log,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        trained_on = f"{self.pictures} pictures of {self.settings['size']} px"
        save_generator(self.average.module, self.path, half=True, trained_on=trained_on)

    @torch.no_grad()
    def watch(self, n_pictures=64):
        """Fills unseen pictures with the averaged weights: a line of the log, and a strip to look at while it trains."""
        network = self.average.module.eval()
        image, mask = picture_batch(self.settings["size"], n_pictures, WATCHED_SEED, self.device)
        filled = fill(network, image, mask)
        unseen = hole_and_known_l1(filled, image, mask)[0].item()
        self.log.append((self.step, self.pictures, round(self.seconds), round(self.smooth, 5), round(unseen, 5)))
        with open(self.csv, "w", newline="") as file:
            csv.writer(file).writerows([("steps", "pictures", "seconds", "hole_l1", "hole_l1_unseen"), *self.log])
        strip = [torch.cat(list(x[:12]), dim=2) for x in (image * (1 - mask) + 0.5 * mask, paste(filled, image, mask), image)]
        Image.fromarray(to_pixels(torch.cat(strip, dim=1)[None])).save(self.preview)
        return unseen


def train(
    path, minutes=50.0, steps=None, size=64, batch=16, ngf=16, n_blocks=6, ratio=0.75, seed=0, device=None, watch_every=500
):
    """Trains a LaMa generator and writes its averaged weights; a checkpoint beside them lets a stopped run go on.

    Args:
        path: of the ``.safetensors`` to write. Beside it, ``.ckpt`` holds all that it takes to go on, ``.csv`` the error
            in the hole as it fell, ``.png`` some unseen pictures as the network fills them.
        minutes: length of the run; ignored where ``steps`` is given, with which a run on the CPU is the same every time.
        steps: length of the run in steps of the optimizer.
        size: of the training pictures, in pixels.
        batch: pictures to a step.
        ngf, n_blocks, ratio: of the ``LamaGenerator``; ratio 0 is a network of local convolutions alone.
        seed: of the weights at the start and of the pictures, 0 to 3; it seeds torch's own generator.
        device: where it is trained; None is the best there is.
        watch_every: steps between two lines of the log; the checkpoint is written as often.

    Returns:
        The averaged network, in eval mode.

    Raises:
        FileExistsError: where there are files at the path and no checkpoint beside them: nothing is written over.
        ValueError: where an argument is not as above, or the checkpoint is of a run with other settings.
        RuntimeError: where a gradient is no longer finite; the last checkpoint stays as it was.
    """
    if not (minutes > 0 and (steps is None or steps >= 1) and batch >= 1 and watch_every >= 1):
        given = f"minutes {minutes}, steps {steps}, batch {batch}, watch_every {watch_every}"
        raise ValueError(f"{given}; expected all of them to be more than 0")
    if size < 16 or size % 8:
        raise ValueError(f"size is {size}; expected a multiple of 8, at least 16")
    if seed not in range(4):  # torch's generator takes 32 bits: others would meet the seeds of held-out scenes
        raise ValueError(f"seed is {seed!r}; expected 0, 1, 2 or 3")
    device = pick_device(device)
    torch.manual_seed(seed)
    network = LamaGenerator(ngf, n_blocks, ratio).to(device, memory_format=torch.channels_last)
    settings = dict(size=size, batch=batch, ngf=ngf, n_blocks=n_blocks, ratio=ratio, seed=seed)
    run = Run(path, network, device, settings)

    def share_done():
        return run.seconds / (60 * minutes) if steps is None else run.step / steps

    unseen = run.log[-1][-1] if run.log else float("nan")
    layout = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"
    with stop_between_steps() as stopped, tqdm(total=100, initial=100 * min(share_done(), 1), bar_format=layout) as bar:
        while share_done() < 1 and not stopped:
            for group in (group for optimizer in run.optimizers for group in optimizer.param_groups):
                group["lr"] = group["peak"] * rate(share_done(), run.step)
            image, mask = picture_batch(size, batch, SEEDS_PER_RUN * (seed + 1) + run.step, device, close_ups=0.4)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                prediction = fill(network, image, mask)
            in_hole, known = hole_and_known_l1(prediction.float(), image, mask)
            network.zero_grad()
            (in_hole + 0.3 * known).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, error_if_nonfinite=True)
            for optimizer in run.optimizers:
                optimizer.step()
            run.average.update_parameters(network)
            run.step += 1
            if run.step % 20 == 1:  # reading it makes a GPU wait
                run.smooth = in_hole.item() if run.smooth is None else 0.9 * run.smooth + 0.1 * in_hole.item()
                seen = f"{run.pictures / 1000:.0f}k pictures"
                bar.set_postfix_str(f"hole L1 {run.smooth:.4f}, unseen {unseen:.4f}, {seen}")
                bar.update(100 * min(share_done(), 1) - bar.n)
            if run.step % watch_every == 0:
                unseen = run.watch()
                run.save()
    run.save()
    if stopped:
        raise KeyboardInterrupt
    return run.average.module.eval()


@contextmanager
def stop_between_steps(signals=(signal.SIGINT,)):
    """Ctrl-C puts a word into the list that this gives, instead of stopping in the middle of a step: no half step is saved.

    Args:
        signals: that do so.
    """
    stopped = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stopped
        return
    before = [signal.signal(one, lambda *_: stopped.append("stop")) for one in signals]
    try:
        yield stopped
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def main():
    parser = argparse.ArgumentParser(description="Train the embedded network on drawn scenes.")
    parser.add_argument("path", nargs="?", default="mini_lama.safetensors", help="weights to write")
    parser.add_argument("--minutes", type=float, default=50, help="length of the run (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="length in steps of the optimizer, in place of minutes")
    parser.add_argument("--ratio", type=float, default=0.75, help="share of Fourier channels (default: %(default)s)")
    parser.add_argument("--ngf", type=int, default=16, help="channels of the first layer (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="pictures to a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    args = parser.parse_args()
    path = Path(args.path)
    print(f"weights: {path}, error as it falls: {path.with_suffix('.csv')}, pictures as they fill: {path.with_suffix('.png')}")
    try:
        train(**vars(args))
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"stopped; the same command goes on from {path.with_suffix('.ckpt')}\n")


if __name__ == "__main__":
    main()
