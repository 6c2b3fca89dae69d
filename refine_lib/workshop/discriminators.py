"""What a discriminator needs to learn at all: ``python -m refine_lib.workshop.discriminators annealed.safetensors``.

Discriminators are trained alone, against a network that stands still, and asked about pictures that they have not seen. Prints
a line for each: chance is a loss of 1.386 and a half of the patches told rightly.
"""

import argparse
import math

import torch

from refine_lib.masks import paste
from refine_lib.networks.registry import load_generator
from refine_lib.workshop.losses import Discriminator, penalty_at, told_by, touched
from refine_lib.workshop.sheets import Sheets
from refine_lib.workshop.training import gradients_of, optimizers_of

STEPS, UNSEEN = 300, 8  # batches of 16 pictures


class WithoutMask(Discriminator):
    """A discriminator that is not told where the hole is."""

    def forward(self, image, mask):
        return super().forward(image, torch.zeros_like(mask))


WAYS = {  # name: the discriminator, whether Muon trains it, R1's weight
    "mask, Muon": (Discriminator, True, 0.0),
    "mask, Muon, R1 0.0001": (Discriminator, True, 0.0001),
    "mask, Muon, R1 0.001": (Discriminator, True, 0.001),
    "mask, Adam": (Discriminator, False, 0.0),
    "no mask, Muon": (WithoutMask, True, 0.0),
    "no mask, Adam, R1 0.001": (WithoutMask, False, 0.001),
}


def learns(way, learned, unseen):
    """The loss on unseen pictures, and the share of patches at the hole that are told rightly, after one look at the learned.

    Args:
        way: of ``WAYS``.
        learned, unseen: batches of (truth, filled, mask).
    """
    kind, with_muon, penalty = WAYS[way]
    torch.manual_seed(0)
    discriminator = kind().to(memory_format=torch.channels_last)
    adam = torch.optim.AdamW(discriminator.parameters(), lr=5e-4, betas=(0.5, 0.99))
    optimizers = optimizers_of(discriminator, 0.02, betas=(0.5, 0.99)) if with_muon else [adam]
    for step, (image, filled, mask) in enumerate(learned):
        judged, _, _ = told_by(discriminator, image, filled, mask, penalty_at(step, penalty))
        gradients_of(judged, discriminator)
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        loss = sum(told_by(discriminator, *batch)[0].item() for batch in unseen) / len(unseen)
        right = [(way_told > 0) == is_real for way_told, is_real in _told(discriminator, unseen)]
    return loss, torch.cat(right).float().mean().item()


def _told(discriminator, batches):
    """The logits at the hole, of the truth and of what was filled, with whether they should be above 0."""
    for image, filled, mask in batches:
        at_hole = touched(mask) > 0
        yield discriminator(image, mask)[0][at_hole], True
        yield discriminator(filled, mask)[0][at_hole], False


def main():
    parser = argparse.ArgumentParser(description="Find out what a discriminator needs to learn at all.")
    parser.add_argument("network", help="a .safetensors of a generator, whose fills are to be told from the truth")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        network = load_generator(args.network).eval()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    sheets = Sheets("patterns")

    def filled(step):
        image, mask = sheets.batch(step)
        with torch.no_grad():
            return image, paste(network(torch.cat([image * (1 - mask), mask], dim=1)), image, mask), mask

    unseen = [filled(100 * STEPS + step) for step in range(UNSEEN)]
    learned = [filled(step) for step in range(STEPS)]
    print(
        f"| {STEPS} steps of 16 pictures | loss (chance {2 * math.log(2):.3f}) | patches told rightly |",
        "|---|---|---|",
        sep="\n",
    )
    for way in WAYS:
        loss, right = learns(way, learned, unseen)
        print(f"| {way} | {loss:.3f} | {right:.0%} |", flush=True)


if __name__ == "__main__":
    main()
