"""Latent diffusion: a hole is filled from noise, by a network that takes a part of the noise away in each of many passes.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022), its network for inpainting. Names of
attributes are those of the published weights, so that these load as they are. A row of the paper's Table 1.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from refine_lib.checks import LARGEST_SEED, as_integer
from refine_lib.device import plainly
from refine_lib.networks.latent_diffusion_layers import GROUPS, LATENT, Autoencoder, UNet
from refine_lib.networks.registry import Architecture, Source, Weights, register, width
from refine_lib.networks.split import pad

N_TIMES = 1000  # of the noise
REDUCTION = 4  # of the size, in a latent
# The share of the picture in what is left at each time.
SHARES = np.cumprod(1 - np.linspace(0.0015**0.5, 0.0205**0.5, N_TIMES) ** 2)


def check_noise(n_steps: Any = 50, seed: Any = 0) -> tuple[int, int]:
    """The number of passes and the seed as whole numbers. Raises ``ValueError`` unless they are as in ``LatentDiffusion``."""
    n = as_integer(n_steps, "n_steps", "passes", least=1, most=N_TIMES // 2)
    if N_TIMES % n:
        raise ValueError(f"n_steps is {n}; expected a divisor of {N_TIMES}, as 10, 20, 25 or 50")
    return n, as_integer(seed, "seed", "", most=LARGEST_SEED)


class LatentDiffusion(nn.Module):
    """The inpainting network of latent diffusion; the defaults are those of the published one.

    It is called as a split network is, ``model(image, mask)``, and gives a plain picture. It has no front and no rear:
    ``not_split`` says why. The noise that it begins with is the same for all pictures of a batch, and in every run.

    Args:
        n: channels of the UNet at the latent's full size, a multiple of 32.
        n_first: channels of the autoencoder at the picture's full size, a multiple of 32.
        n_codes: in its codebook.
        heads: of attention, a divisor of ``n``.
        averaged: whether the UNet's weights are known to be the averaged ones, with which the authors sample.
        n_steps: passes of the UNet, a divisor of 1000, at most 500. The default is the authors'.
        seed: of the noise.

    Attributes:
        multiple: in pixels. Sides are padded to a multiple of it by reflection; the prediction is cropped.
        note: whose weights the UNet has, in a sentence.
        not_split: why the paper's refinement does not apply.

    Raises:
        ValueError: where an argument is out of its range.
    """

    multiple = 32
    least_px = 32
    not_split = (
        "LatentDiffusion cannot be refined: the paper refines a featuremap between the front and the rear of one pass, and this"
        " network fills a hole in many passes, from noise. Its plain picture can be a guide for another network's refinement"
    )

    def __init__(
        self,
        n: int = 256,
        n_first: int = 128,
        n_codes: int = 8192,
        heads: int = 8,
        averaged: bool = False,
        n_steps: int = 50,
        seed: int = 0,
    ):
        super().__init__()
        if min(n, n_first) < GROUPS or n % GROUPS or n_first % GROUPS or n_codes < 1 or heads < 1 or n % heads:
            given = f"n is {n}, n_first {n_first}, n_codes {n_codes} and heads {heads}"
            raise ValueError(f"{given}; expected multiples of {GROUPS}, at least 1, and a divisor of n")
        self.n_steps, self.seed = check_noise(n_steps, seed)
        self.first_stage_model = Autoencoder(n_first, n_codes)
        self.model = nn.ModuleDict({"diffusion_model": UNet(n, heads)})
        known = "the averaged ones (EMA)" if averaged else "those that the file has, maybe not averaged (no EMA)"
        self.note = f"The weights of the UNet are {known}."

    def sample_with(self, n_steps: int | None = None, seed: int | None = None) -> "LatentDiffusion":
        """Sets the number of passes and the seed, from now on; None leaves them. Returns the network itself."""
        self.n_steps, self.seed = self._noise(n_steps, seed)
        return self

    def _noise(self, n_steps, seed):
        return check_noise(self.n_steps if n_steps is None else n_steps, self.seed if seed is None else seed)

    @plainly
    def forward(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        n_steps: int | None = None,
        seed: int | None = None,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The plain prediction, (B, 3, H, W) in [0, 1], known pixels included; see ``passes``."""
        [picture] = collections.deque(self.passes(image, mask, n_steps, seed, noise), maxlen=1)
        return picture()

    @torch.no_grad()
    def passes(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        n_steps: int | None = None,
        seed: int | None = None,
        noise: torch.Tensor | None = None,
        precision: torch.dtype | None = None,
    ) -> Iterator[Callable[[], torch.Tensor]]:
        """Yields after each pass of the UNet a function that makes the picture so far: what the pass takes for the end.

        Args:
            image: (B, 3, H, W) in [0, 1]. What it holds in the hole is not looked at.
            mask: (B, 1, H, W), 1 = hole.
            n_steps, seed: None takes the network's own.
            noise: (1, 3, h, w) or (B, 3, h, w) to begin with, of a quarter of the padded size. None draws it from the seed.
            precision: of the UNet's convolutions; None is that of the weights.

        Raises:
            ValueError: where an argument is not as above, or a picture is too small to be padded.
        """
        n_steps, seed = self._noise(n_steps, seed)
        size, weights = image.shape[-2:], self.first_stage_model.quant_conv.weight
        x = pad(torch.cat([torch.where(mask > 0, -1, 2 * image - 1), 2 * mask - 1], dim=1), self.multiple).to(weights)
        seen = [self.first_stage_model.encode(x[:, :3]), x[:, 3:, ::REDUCTION, ::REDUCTION]]
        if noise is None:
            dice, shape = torch.Generator().manual_seed(seed), (1, LATENT, *seen[0].shape[-2:])
            noise = torch.randn(shape, generator=dice, dtype=torch.float32, device="cpu")
        if noise.shape not in (seen[0].shape, (1, *seen[0].shape[1:])):
            raise ValueError(f"noise has shape {tuple(noise.shape)}; expected {tuple(seen[0].shape)}, or one for all pictures")
        x, spacing = noise.to(weights).expand_as(seen[0]), N_TIMES // n_steps
        for time in range(N_TIMES - spacing + 1, 0, -spacing):
            with torch.autocast(x.device.type, precision, enabled=precision is not None):
                noise = self.model["diffusion_model"](torch.cat([x, *seen], dim=1), time).to(x)
            share, before = SHARES[time], SHARES[max(time - spacing, 0)]
            picture = (x - (1 - share) ** 0.5 * noise) / share**0.5
            x = before**0.5 * picture + (1 - before) ** 0.5 * noise
            yield partial(self._picture, picture if time > 1 else x, size, image.dtype)

    @torch.no_grad()
    def _picture(self, latent, size, dtype):
        if not latent.isfinite().all():  # a picture of codes would hide it
            raise FloatingPointError("what the network makes of noise is not finite; are its weights whole?")
        decoded = self.first_stage_model.decode(latent)[..., : size[0], : size[1]]
        return ((decoded + 1) / 2).clamp(0, 1).to(dtype)


STEM = "input_blocks.0.0.weight"
OF_UNET = ("time_embed.", "input_blocks.", "middle_block.", "output_blocks.", "out.")
# Of each half of the autoencoder, which may lie in two files: the end of a name that it alone has, and all its parts.
HALVES = {
    "encoder.conv_in.weight": ("encoder.", "quant_conv."),
    "decoder.conv_in.weight": ("decoder.", "post_quant_conv.", "quantize."),
}


def latent_diffusion_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's tensors by its own names, whatever stands before them. Of the UNet's the averaged ones are preferred.

    An entry ``averaged`` says that there were such: they have the whole name without its dots.
    """
    prefix = next(name.removesuffix(STEM) for name in state if name.endswith(STEM))
    of_unet = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    of_unet = {name: t for name, t in of_unet.items() if name.startswith(OF_UNET)}
    averaged = {name: f"model_ema.diffusion_model{name.replace('.', '')}" for name in of_unet}
    found = {}
    if not state.keys().isdisjoint(averaged.values()):
        of_unet = {name: state[end] for name, end in averaged.items() if end in state}
        found["averaged"] = torch.tensor(True)
    for end, parts in HALVES.items():
        prefixes = sorted(name.removesuffix(end) for name in state if f".{name}".endswith(f".{end}"))
        first = next((one for one in prefixes if "first_stage_model" in one), prefixes[0] if prefixes else "")
        for name, t in state.items():  # a checkpoint may have the autoencoder twice
            if name.startswith(first) and name.removeprefix(first).startswith(parts):
                found[f"first_stage_model.{name.removeprefix(first)}"] = t
    return found | {f"model.diffusion_model.{name}": t for name, t in of_unet.items()}


def latent_diffusion_arguments(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of the network whose state this is."""
    codes = state.get("first_stage_model.quantize.embedding.weight", torch.empty(0))
    return {
        "n": width(state, f"model.diffusion_model.{STEM}"),
        "n_first": width(state, "first_stage_model.encoder.conv_in.weight"),
        "n_codes": len(codes) if codes.ndim == 2 else 0,
        "averaged": "averaged" in state,
    }


FILES = {
    "cond_stage_model_encode": "23239fc9081956a3e70de56472b3f296",
    "cond_stage_model_decode": "fe419cd15a750d37a4733589d0d3585c",
    "diffusion": "b0afda12bf790c03aba2a7431f11d22d",
}
RELEASE = "https://github.com/Sanster/models/releases/download/add_ldm"

register(
    Architecture(
        name="latent diffusion",
        network=LatentDiffusion,
        stem=STEM,
        arguments=latent_diffusion_arguments,
        names=latent_diffusion_names,
        weights={
            "latent-diffusion": Weights(
                tuple((Source(f"{RELEASE}/{name}.pt", md5=md5, prefix=f"{name}."),) for name, md5 in FILES.items()),
                smallest_scale=256,
            )
        },
    )
)
