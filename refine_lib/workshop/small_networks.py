"""Trains small networks that are no LaMa, to see what holds for them: ``python -m refine_lib.workshop.small_networks NAME``.

They serve for measuring alone (``few_updates``). Their weights go to ``build/``, and are no part of the package.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from tqdm.auto import tqdm

from refine_lib.metrics import pooled_l1
from refine_lib.networks import load_network
from refine_lib.networks.aotgan import AOTGenerator
from refine_lib.networks.registry import generator_of, save_generator
from refine_lib.networks.split import split_network
from refine_lib.networks.zits import StructuredFront, ZITSGenerator
from refine_lib.networks.zits_structure import positions
from refine_lib.workshop.average import MovingAverage, clip_gradients
from refine_lib.workshop.effect import fill_after_telea
from refine_lib.workshop.muon import best_precision
from refine_lib.workshop.train_first import (
    SEEDS_PER_RUN,
    WATCHED_SEED,
    hole_and_known_l1,
    optimizers,
    picture_batch,
    rate,
)

FOLDER = Path("build/small_networks")
SIZE, BATCH = 64, 16  # of the training pictures, in pixels, and how many to a step


def convolution(n_in, n_out, stride=1):
    """A 3x3 convolution, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


class UNet(nn.Module):
    """A U-Net, cut before its middle: z is the smallest featuremap and the three that go around it, up to the full size.

    Args:
        n: channels at the full size.
        n_middle: convolutions in the middle.

    Shape: (B, 4, H, W) -> (B, 3, H, W), H and W multiples of 8; colors in [0, 1].
    """

    multiple, first_block = 8, "middle"

    def __init__(self, n=12, n_middle=6):
        super().__init__()
        widths = [n, 2 * n, 4 * n, 8 * n]
        pairs = list(zip(widths, widths[1:], strict=False))
        self.first = convolution(4, n)
        self.down = nn.ModuleList(convolution(few, many, stride=2) for few, many in pairs)
        self.middle = nn.Sequential(*(convolution(8 * n, 8 * n) for _ in range(n_middle)))
        self.up = nn.ModuleList(convolution(many + few, few) for few, many in reversed(pairs))
        self.last = nn.Conv2d(n, 3, 3, padding=1)

    def forward(self, x):
        skips = [self.first(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = self.middle(skips.pop())
        for up in self.up:
            skip = skips.pop()
            x = up(torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1))
        return torch.sigmoid(self.last(x))


class WithoutEdges(StructuredFront):
    """ZITS's front in a picture without an edge or a line, as it sees one that has none: positions alone tell of the hole."""

    def structure(self, image, mask):
        distance, directions = positions(mask)
        return torch.zeros_like(mask), torch.zeros_like(mask), distance[None], directions[None]


class ZITSWithoutEdges(ZITSGenerator):
    """ZITS's generator without what finds and completes edges and lines, which would have to be trained before it."""

    least_px = 64

    def __init__(self, ngf=8, n_blocks=4):
        super().__init__(ngf, n_blocks, dim=8, depth=1, lines=False)
        self.transformer = self.structure_upsample = None

    @property
    def layers(self):
        return nn.Sequential(WithoutEdges(self), *self.generator.body(), *self.generator.head())

    def forward(self, x):
        x = nn.Sequential(WithoutEdges(self), *self.generator.body())(x)
        return torch.sigmoid(2 * self.generator.convt4(x))


NETWORKS = {"aot-gan": lambda: AOTGenerator(48, 4), "zits": ZITSWithoutEdges, "u-net": UNet}


def predicted(network, image, mask):
    """A network's prediction (B, 3, H, W) in [0, 1], by what it wants to see, as ``split_network`` asks for it."""
    low, high = getattr(network, "value_range", (0.0, 1.0))
    seen = torch.where(mask > 0, getattr(network, "hole_value", 0.0), image * (high - low) + low)
    seen = torch.cat([seen, mask], dim=1).contiguous(memory_format=torch.channels_last)  # faster on a CPU
    return (network(seen).float() - low) / (high - low)


def train(network, minutes=12.0, steps=None, seed=3):
    """Trains a network on drawn scenes of 64 px: L1 in the hole, and 0.3 of L1 outside it.

    Args:
        network: any that ``split_network`` takes, with weights to begin from.
        minutes: of the processor's time; ignored where ``steps`` is given.
        steps: of the optimizers.
        seed: of the pictures, 0 to 3.

    Returns:
        The average of its latest weights, in eval mode.
    """
    network.to(memory_format=torch.channels_last).train()
    average, chosen = MovingAverage(network, horizon=300), optimizers(network)
    began, done, step = time.process_time(), 0.0, 0
    with tqdm(total=100, mininterval=10) as bar:
        while done < 1:
            image, mask = picture_batch(SIZE, BATCH, SEEDS_PER_RUN * (seed + 1) + step, "cpu", close_ups=0.4)
            with torch.autocast("cpu", torch.bfloat16, enabled=best_precision() == torch.bfloat16):
                prediction = predicted(network, image, mask)
            in_hole, known = hole_and_known_l1(prediction, image, mask)
            network.zero_grad()
            (in_hole + 0.3 * known).backward()
            clip_gradients(network.parameters())
            for optimizer in chosen:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * rate(done, step)
                optimizer.step()
            average.update()
            step += 1
            done = (time.process_time() - began) / (60 * minutes) if steps is None else step / steps
            bar.set_postfix_str(f"{step} steps, hole L1 {in_hole.item():.4f}", refresh=False)
            bar.update(100 * min(done, 1) - bar.n)
    return average.network.eval()


@torch.no_grad()
def told_of(network, n=64):
    """What a network makes of unseen scenes of 64 px, in words: L1 in the hole beside that of Telea's fill, and outside it."""
    image, mask = picture_batch(SIZE, n, WATCHED_SEED, "cpu")
    in_hole, known = hole_and_known_l1(predicted(network, image, mask), image, mask)
    telea = pooled_l1(fill_after_telea(image, mask), image, mask)
    return f"L1 at {SIZE} px: {in_hole:.4f} in the hole (Telea's fill {telea:.4f}), {known:.4f} outside"


def model_of(name):
    """A split network: one of ``NETWORKS`` from ``build/``, the average in a training's ``.ckpt``, or ``load_network``'s.

    Raises:
        OSError, ValueError: where there is none.
    """
    if name in NETWORKS:
        path, network = FOLDER / f"{name}.safetensors", NETWORKS[name]()
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}; python -m refine_lib.workshop.small_networks {name} makes it")
        network.load_state_dict(load_file(path))
        return split_network(network)
    if name.endswith(".ckpt"):
        return split_network(generator_of(torch.load(name, map_location="cpu", weights_only=True)["average"]["network"]))
    return load_network(name, "cpu")


def main():
    parser = argparse.ArgumentParser(description="Train a small network of another architecture on drawn scenes.")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--minutes", type=float, default=12, help="of the processor's time (default: %(default)s)")
    parser.add_argument("--seed", type=int, choices=range(4), default=3, help="(default: %(default)s)")
    args = parser.parse_args()
    path = FOLDER / f"{args.network}.safetensors"
    if not 0 < args.minutes < float("inf"):
        parser.error(f"argument --minutes: {args.minutes}; expected more than 0")
    if path.exists():
        parser.error(f"{path} is there already; expected it not to be, for nothing is written over")
    torch.manual_seed(args.seed)
    FOLDER.mkdir(parents=True, exist_ok=True)
    network = train(NETWORKS[args.network](), args.minutes, seed=args.seed)
    save_generator(network, path)
    n = sum(p.numel() for p in network.parameters())
    print(f"{args.network}, {n:,} parameters, {args.minutes:g} minutes, seed {args.seed}: {told_of(network)}")


if __name__ == "__main__":
    main()
