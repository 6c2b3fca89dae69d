"""Pictures that the package draws itself: planes in perspective with patterns and textures, meeting at a straight edge.

A scene is a handful of numbers, and drawing it is a formula of the pixel's place. So the same scene can be drawn at any
resolution, and what a network should have put into a hole at four times its training size is known exactly. Every edge is
filtered over the pixel's footprint as it is drawn. So a scene drawn small looks like the same scene drawn large and shrunk.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from refine_lib.checks import LARGEST_SEED, LARGEST_SIDE, as_integer
from refine_lib.device import plainly

PATTERNS = ("stripes", "tiles", "windows", "planks", "bricks", "clouds")


@dataclass(frozen=True)
class Scenes:
    """The numbers behind a batch of pictures. Each plane (two to a picture) has its own pattern, view and colors.

    Tensors start with (B, 2), picture and plane, but for two: ``edge``, where the planes meet, and ``view``, are (B, 3).
    """

    pattern: torch.Tensor  # (B, 2), index into PATTERNS
    angle: torch.Tensor  # (B, 2), of the pattern on its plane, in radians
    periods: torch.Tensor  # (B, 2), of the pattern in half a picture's side
    tilt: torch.Tensor  # (B, 2, 2), how fast the plane runs away along x and y: its perspective
    phase: torch.Tensor  # (B, 2, 2), shift of the pattern along its two directions, in periods
    fill: torch.Tensor  # (B, 2, 2), share of a period that is figure rather than ground, along the two directions
    colors: torch.Tensor  # (B, 2, 2, 3), figure and ground, RGB in [0, 1]
    light: torch.Tensor  # (B, 2, 2), change of brightness along x and y
    softness: torch.Tensor  # (B, 2), width of the pattern's edges, in periods
    grain: torch.Tensor  # (B, 2), strength of the noise on the plane, as a share of its brightness; of clouds, their own
    roughness: torch.Tensor  # (B, 2), strength of each octave of the noise in relation to the one before: 0.5 is 1/f
    stretch: torch.Tensor  # (B, 2), of the noise along the pattern: 1 is cloud, 5 is wood
    noise_at: torch.Tensor  # (B, 2, 2), where the plane lies in the endless noise, in cells
    edge: torch.Tensor  # (B, 3), (a, b, c) of a*x + b*y > c, x and y in [-1, 1]
    view: torch.Tensor  # (B, 3), x and y of what the picture's middle shows, and half a side of what it shows: (0, 0, 1)

    @classmethod
    @plainly
    def random(
        cls,
        batch: int = 1,
        seed: int = 0,
        weights: Sequence[float] = (3, 3, 2, 1, 1, 0.8),
        one_plane: float = 0.45,
        close_ups: float = 0.0,
    ) -> "Scenes":
        """Draws scenes at random.

        Args:
            batch: number of scenes.
            seed: of the random numbers, which are drawn on the CPU: the same scenes on every device.
            weights: how often each of ``PATTERNS`` occurs, in relation to one another.
            one_plane: share of the scenes in which a single plane fills the picture.
            close_ups: share of the pictures that show only a part of their scene, a quarter to two thirds of its side.

        Raises:
            ValueError: where weights are not one for each of ``PATTERNS``, or batch is below 1.
        """
        if len(weights) != len(PATTERNS):
            raise ValueError(f"weights are {weights!r}; expected {len(PATTERNS)} numbers, for {', '.join(PATTERNS)}")
        batch = as_integer(batch, "batch", "scenes", least=1, most=LARGEST_SIDE)
        generator = torch.Generator().manual_seed(as_integer(seed, "seed", "", most=LARGEST_SEED))

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(batch, *shape, generator=generator, dtype=torch.float32)

        chances = torch.tensor(weights, dtype=torch.float32)
        pattern = torch.multinomial(chances, 2 * batch, replacement=True, generator=generator).view(batch, 2)
        colors = uniform(0, 1, 2, 2, 3)
        colors = torch.lerp(colors.mean(-1, keepdim=True), colors, 0.7)  # paint rather than neon
        # Figure and ground must differ in brightness, or there is nothing to continue: move them apart about their mean.
        brightness = colors.mean(-1, keepdim=True)
        apart = uniform(0.15, 0.35, 2, 1, 1) * torch.sign(brightness[:, :, :1] - brightness[:, :, 1:])
        colors = colors - brightness + brightness.mean(2, keepdim=True) + apart * colors.new_tensor([1, -1])[:, None]
        turn = uniform(0, 2 * math.pi)
        offset = torch.where(uniform(0, 1) < one_plane, 3.0, uniform(-0.5, 0.5))
        clouds = pattern == PATTERNS.index("clouds")
        soft, grainy, wooden = uniform(0, 1, 2) < 0.1, uniform(0, 1, 2) < 0.2, uniform(0, 1, 2) < 0.3
        scene = dict(
            pattern=pattern,
            angle=uniform(0, math.pi, 2),
            periods=uniform(1.0, 2.2, 2),
            tilt=uniform(-0.25, 0.25, 2, 2),
            phase=uniform(0, 1, 2, 2),
            fill=uniform(0.4, 0.6, 2, 2),
            colors=colors.clamp(0.02, 0.98),
            light=uniform(-0.12, 0.12, 2, 2) * (1 + clouds.int())[..., None],
            softness=uniform(0.03, 0.15, 2) * soft,
            grain=torch.where(clouds, uniform(0.1, 0.8, 2), uniform(0.03, 0.15, 2) * grainy),
            roughness=uniform(0.35, 0.6, 2),
            stretch=torch.where(wooden, uniform(2.0, 6.0, 2), 1.0),
            noise_at=uniform(20, 200, 2, 2),
            edge=torch.stack([turn.cos(), turn.sin(), offset], dim=-1),
        )
        shown = torch.where(uniform(0, 1) < close_ups, uniform(0.25, 0.67), 1.0)[:, None]
        return cls(**scene, view=torch.cat([uniform(-1, 1, 2) * (1 - shown), shown], dim=1))

    def __getitem__(self, these: slice) -> "Scenes":
        """The scenes of a slice."""
        return _some_of(self, these)

    @plainly
    def draw(self, size: int, device: str | torch.device = "cpu") -> torch.Tensor:
        """Draws the pictures at a resolution.

        Args:
            size: of the side of the square pictures, in pixels.
            device: where they are drawn.

        Returns:
            float32 images (B, 3, size, size) in [0, 1].
        """
        size = as_integer(size, "size", "pixels", least=1, most=LARGEST_SIDE)
        centers = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * 2 / size - 1
        left, top, shown = self.view.to(device).T[..., None, None]
        x, y = left + shown * centers[None, None, :], top + shown * centers[None, :, None]
        pixel = shown * 2 / size  # its width
        first, second = self._draw_planes(x, y, pixel).unbind(1)
        a, b, c = self.edge.to(device).T[..., None, None]
        beyond = ((a * x + b * y - c) / pixel + 0.5).clamp(0, 1)[:, None]  # share of the pixel that lies beyond the edge
        return torch.lerp(first, second, beyond).clamp(0, 1)

    def _draw_planes(self, x, y, pixel):
        """All planes, (B, 2, 3, H, W), each over the whole picture. x is (B, 1, W), y (B, H, 1), pixel (B, 1, 1)."""
        numbers = {name: value.to(x.device).flatten(0, 1) for name, value in vars(self).items() if name not in ("edge", "view")}
        places = {name: value.repeat_interleave(2, dim=0) for name, value in (("x", x), ("y", y), ("pixel", pixel))}
        plane = SimpleNamespace(**numbers, **places)
        slopes = (plane.tilt[..., None, None], plane.light[..., None, None])
        tilt, light = (slope[:, 0] * plane.x + slope[:, 1] * plane.y for slope in slopes)
        plane.scale = plane.periods[:, None, None] / (1 + tilt)  # periods in half a picture's side, at each pixel
        plane.noise = _noise(plane)
        figure, tone = torch.empty_like(tilt), torch.zeros_like(tilt)
        for number, name in enumerate(PATTERNS):
            these = (plane.pattern == number).nonzero()[:, 0]
            figure[these], tone[these] = _draw_pattern(name, _some_of(plane, these))
        colors = plane.colors[..., None, None]
        painted = torch.lerp(colors[:, 1], colors[:, 0], figure[:, None]) * (1 + light + tone)[:, None]
        return painted.unflatten(0, (-1, 2))


def random_scenes(size: int, batch: int = 1, seed: int = 0, device: str | torch.device = "cpu", **options) -> torch.Tensor:
    """Draws pictures at random. A seed gives the same scenes at every size.

    Args:
        size: of the side of the square pictures, in pixels.
        batch: number of pictures.
        seed: of the random numbers, which are drawn on the CPU: the same scenes on every device.
        device: where they are drawn.
        options: of ``Scenes.random``.

    Returns:
        float32 images (B, 3, size, size) in [0, 1].

    Example:
        >>> small, large = random_scenes(64, seed=1), random_scenes(128, seed=1)
        >>> large.shape, bool((large[..., ::2, ::2] - small).abs().mean() < 0.05)
        (torch.Size([1, 3, 128, 128]), True)
    """
    return Scenes.random(batch, seed, **options).draw(size, device)


def _some_of(many, these):
    """Some of many scenes or planes, with every number of theirs."""
    return type(many)(**{name: value[these] for name, value in vars(many).items()})


def _along(plane):
    """Where each pixel lies along and across the pattern of its plane, in periods: u and v, (N, H, W)."""
    cos, sin = plane.angle.cos()[:, None, None], plane.angle.sin()[:, None, None]
    return (cos * plane.x + sin * plane.y) * plane.scale, (cos * plane.y - sin * plane.x) * plane.scale


def _draw_pattern(name, plane):
    """Coverage of the figure in [0, 1] and change of brightness, each (N, H, W), for N planes of one pattern."""
    if name == "clouds":
        return (0.5 + plane.noise).clamp(0, 1), 0.0
    u, v = (t + shift for t, shift in zip(_along(plane), plane.phase.T[..., None, None], strict=True))
    # Edges are averaged over a pixel's width, here in periods, and over the width that soft ones have of their own.
    footprint = plane.pixel * plane.scale + plane.softness[:, None, None]
    fill_u, fill_v = plane.fill.T[..., None, None]
    joint = 0.12  # share of a period that the line between two planks or bricks takes
    if name == "stripes":
        return _pulses(u, fill_u, footprint), plane.noise
    if name == "tiles":
        odd_u, odd_v = _pulses(u, 0.5, footprint), _pulses(v, 0.5, footprint)
        return odd_u + odd_v - 2 * odd_u * odd_v, plane.noise
    if name == "windows":
        return _pulses(u, fill_u, footprint) * _pulses(v, fill_v, footprint), plane.noise
    # Where a plank's tone and a row of bricks change is in the middle of a joint, which covers it.
    if name == "planks":
        tone = 0.18 * (torch.floor(u + joint / 2).remainder(3) - 1)  # dark, middle, light, dark, ...
        return _pulses(u, 1 - joint, footprint), tone + plane.noise
    row = torch.floor(2 * v + joint / 2)  # half as high as a brick is long; every other one is shifted by half a brick
    bricks = _pulses(u + 0.5 * row, 1 - joint / 2, footprint) * _pulses(2 * v, 1 - joint, 2 * footprint)
    return bricks, plane.noise


def _pulses(t, fill, footprint):
    """A periodic pulse (1 for the share ``fill`` of each period, else 0), averaged over a pixel of width ``footprint``."""

    def integral(t):
        whole = torch.floor(t)
        return whole * fill + torch.minimum(t - whole, torch.as_tensor(fill, dtype=t.dtype, device=t.device))

    return (integral(t + footprint / 2) - integral(t - footprint / 2)) / footprint


N_CELLS = 256  # a side of the table behind the noise


@functools.cache
def _noise_table(device):
    table = torch.rand(N_CELLS, N_CELLS, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return table.mul(2).sub(1).to(device)


def _noise(plane):
    """Noise (N, H, W) on N planes, about 0: octaves of a smoothed random table, as many as the pixels can show."""
    noise = torch.zeros_like(plane.scale)
    these = (plane.grain > 0).nonzero()[:, 0]
    plane = _some_of(plane, these)
    u, v = (2 * t for t in _along(plane))  # two cells to a period
    u, cell = u / plane.stretch[:, None, None], 0.5 / plane.periods  # a cell's width, half a picture's side being 1
    left, top, strength = *plane.noise_at.T[..., None, None], plane.grain
    while (shown := (cell / plane.pixel[:, 0, 0] - 0.5).clamp(0, 1)).any():  # a pixel averages away what is smaller than itself
        weight = (strength * shown)[:, None, None]
        noise[these] += weight * _look_up(_noise_table(u.device), u + left, v + top)
        u, v, cell, strength = 2 * u, 2 * v, cell / 2, strength * plane.roughness
    return noise


def _look_up(table, x, y):
    """The table at fractional places, smoothed between its cells and repeated without end."""
    left, top = torch.floor(x), torch.floor(y)
    across, down = x - left, y - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    left, top = left.long() % N_CELLS, top.long() % N_CELLS
    right, bottom = (left + 1) % N_CELLS, (top + 1) % N_CELLS
    upper = torch.lerp(table[top, left], table[top, right], across)
    return torch.lerp(upper, torch.lerp(table[bottom, left], table[bottom, right], across), down)
