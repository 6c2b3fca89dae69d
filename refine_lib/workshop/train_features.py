"""Trains the embedded feature network: ``python -m refine_lib.workshop.train_features build/scene_features.safetensors``.

It learns to tell the pattern of a drawn scene, and what was done to a part of it: nothing, blurred, moved, replaced by another
scene, or made noisy; those are the ways in which a filled hole is wrong.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tqdm.auto import tqdm

from refine_lib.device import describe, pick_device
from refine_lib.evaluate.scene_features import DAMAGE, SIZE, SceneFeatures, damaged
from refine_lib.scenes import Scenes
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.train_first import SEEDS_PER_RUN

KINDS = ("thin", "medium", "thick")


def labeled_batch(batch, seed, device):
    """Damaged scenes of 128 px, their patterns and what was done to them."""
    torch.manual_seed(seed)
    scenes = Scenes.random(batch, seed, one_plane=1.0)
    image, hole = scenes.draw(SIZE, device), stroke_masks(SIZE, batch, seed, KINDS[seed % 3], device)
    kind = torch.randint(DAMAGE, (batch,)).to(device)
    return damaged(image, hole, kind), scenes.pattern[:, 0].to(device), kind


def train(steps, batch=32, device=None, seed=1):
    """Trains a ``SceneFeatures``; returns it with the share of patterns and of kinds of damage told rightly at the end."""
    device = pick_device(device)
    torch.manual_seed(seed)
    network = SceneFeatures().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    right = torch.zeros(2)
    for step in (bar := tqdm(range(steps), desc="training")):
        image, *labels = labeled_batch(batch, (seed + 1) * SEEDS_PER_RUN + step, device)
        features = network(image)
        guesses = network.pattern(features), network.damage(features)
        optimizer.zero_grad()
        sum(F.cross_entropy(guess, label) for guess, label in zip(guesses, labels, strict=True)).backward()
        optimizer.step()
        schedule.step()
        now = torch.tensor([(g.argmax(1) == n).float().mean().item() for g, n in zip(guesses, labels, strict=True)])
        right = torch.lerp(right, now, max(0.02, 1 / (step + 1)))
        bar.set_postfix_str("right: pattern {:.0%}, damage {:.0%}".format(*right.tolist()), refresh=False)
    return network.eval(), right.tolist()


def main():
    parser = argparse.ArgumentParser(description="Train the embedded feature network from nothing.")
    parser.add_argument("path", type=Path, help="a new .safetensors")
    parser.add_argument("--steps", type=int, default=2500, help="of 32 pictures (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    args = parser.parse_args()
    if args.path.exists():
        parser.error(f"path is {str(args.path)!r}, which is there already; expected a new name")
    network, right = train(args.steps, device=args.device)
    told = "pattern {:.1%}, damage {:.1%}".format(*right)
    args.path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(
        state,
        args.path,
        metadata={"steps": str(args.steps), "told rightly": told, "made with": describe(pick_device(args.device))},
    )
    print(f"wrote {args.path}; told rightly: {told}")


if __name__ == "__main__":
    main()
