"""Pictures that the package draws itself: planes in perspective with regular patterns, meeting at a straight edge.

A scene is a handful of numbers, and drawing it is a formula of the pixel's place. So the same scene can be drawn at any
resolution, and what a network should have put into a hole at four times its training size is known exactly. Every edge is
filtered over the pixel's footprint as it is drawn, hence a scene drawn small looks like the same scene drawn large and shrunk.
"""

import math
from dataclasses import dataclass

import torch

PATTERNS = ("stripes", "tiles", "windows", "planks", "bricks")


@dataclass(frozen=True)
class Scenes:
    """The numbers behind a batch of pictures. Each plane (two to a picture) has its own pattern, view and colours.

    All tensors start with (B, 2), picture and plane; ``edge`` is (B, 3): the line where the planes meet.
    """

    pattern: torch.Tensor  # (B, 2), index into PATTERNS
    angle: torch.Tensor  # (B, 2), of the pattern on its plane, in radians
    periods: torch.Tensor  # (B, 2), of the pattern in half a picture's side
    tilt: torch.Tensor  # (B, 2, 2), how fast the plane runs away along x and y: its perspective
    phase: torch.Tensor  # (B, 2, 2), shift of the pattern along its two directions, in periods
    fill: torch.Tensor  # (B, 2, 2), share of a period that is figure rather than ground, along the two directions
    colours: torch.Tensor  # (B, 2, 2, 3), figure and ground, RGB in [0, 1]
    light: torch.Tensor  # (B, 2, 2), change of brightness along x and y
    edge: torch.Tensor  # (B, 3), (a, b, c) of a*x + b*y > c, x and y in [-1, 1]

    @classmethod
    def random(cls, batch=1, seed=0, weights=(3, 3, 2, 1, 1), one_plane=0.35):
        """Draws scenes at random.

        Args:
            batch: number of scenes.
            seed: of the random numbers, which are drawn on the CPU: the same scenes on every device.
            weights: how often each of ``PATTERNS`` occurs, in relation to one another.
            one_plane: share of the scenes in which a single plane fills the picture.
        """
        generator = torch.Generator().manual_seed(seed)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(batch, *shape, generator=generator)

        chances = torch.tensor(weights, dtype=torch.float32)
        pattern = torch.multinomial(chances, 2 * batch, replacement=True, generator=generator).view(batch, 2)
        colours = uniform(0, 1, 2, 2, 3)
        colours = torch.lerp(colours.mean(-1, keepdim=True), colours, 0.7)  # paint rather than neon
        # Figure and ground must differ in brightness, or there is nothing to continue: move them apart about their mean.
        brightness = colours.mean(-1, keepdim=True)
        apart = uniform(0.15, 0.35, 2, 1, 1) * torch.sign(brightness[:, :, :1] - brightness[:, :, 1:])
        colours = colours - brightness + brightness.mean(2, keepdim=True) + apart * torch.tensor([1.0, -1.0])[:, None]
        turn = uniform(0, 2 * math.pi)
        offset = torch.where(uniform(0, 1) < one_plane, 3.0, uniform(-0.5, 0.5))
        return cls(
            pattern=pattern,
            angle=uniform(0, math.pi, 2),
            periods=uniform(1.0, 2.2, 2),
            tilt=uniform(-0.25, 0.25, 2, 2),
            phase=uniform(0, 1, 2, 2),
            fill=uniform(0.4, 0.6, 2, 2),
            colours=colours.clamp(0.02, 0.98),
            light=uniform(-0.12, 0.12, 2, 2),
            edge=torch.stack([turn.cos(), turn.sin(), offset], dim=-1),
        )

    def draw(self, size, device="cpu"):
        """Draws the pictures at a resolution.

        Args:
            size: of the side of the square pictures, in pixels.
            device: where they are drawn.

        Returns:
            float32 images (B, 3, size, size) in [0, 1].
        """
        s = Scenes(**{name: value.to(device) for name, value in vars(self).items()})
        pixel = 2 / size
        centres = torch.linspace(-1 + pixel / 2, 1 - pixel / 2, size, device=device)
        y, x = torch.meshgrid(centres, centres, indexing="ij")

        planes = []
        for i in (0, 1):
            figure, tone = _draw_pattern(s, i, x, y, pixel)
            ground_colour, figure_colour = s.colours[:, i, 1, :, None, None], s.colours[:, i, 0, :, None, None]
            light = 1 + tone + _dot(s.light[:, i], x, y)
            planes.append((ground_colour + (figure_colour - ground_colour) * figure[:, None]) * light[:, None])
        distance = _dot(s.edge, x, y) - s.edge[:, 2, None, None]
        second = (distance / pixel + 0.5).clamp(0, 1)[:, None]
        return torch.lerp(planes[0], planes[1], second).clamp(0, 1)


def random_scenes(size, batch=1, seed=0, device="cpu", **options):
    """Pictures (B, 3, size, size) in [0, 1] of the scenes that a seed gives; the same scenes at every size."""
    return Scenes.random(batch, seed, **options).draw(size, device)


def _dot(vector, x, y):
    return vector[:, 0, None, None] * x + vector[:, 1, None, None] * y


def _draw_pattern(s, i, x, y, pixel):
    """Coverage of the figure in [0, 1] and change of brightness of plane i, each (B, H, W)."""
    cos, sin = s.angle[:, i].cos(), s.angle[:, i].sin()
    depth = 1 + _dot(s.tilt[:, i], x, y)
    scale = s.periods[:, i, None, None] / depth
    u = _dot(torch.stack([cos, sin], -1), x, y) * scale + s.phase[:, i, 0, None, None]
    v = _dot(torch.stack([-sin, cos], -1), x, y) * scale + s.phase[:, i, 1, None, None]
    footprint = pixel * scale  # the width of a pixel, in periods
    fill_u, fill_v = s.fill[:, i, 0, None, None], s.fill[:, i, 1, None, None]
    pattern = s.pattern[:, i, None, None]
    joint = 0.12  # share of a period that the line between two planks or bricks takes

    stripes = _pulses(u, fill_u, footprint)
    odd_u, odd_v = _pulses(u, 0.5, footprint), _pulses(v, 0.5, footprint)
    tiles = odd_u + odd_v - 2 * odd_u * odd_v
    windows = stripes * _pulses(v, fill_v, footprint)
    planks = _pulses(u, 1 - joint, footprint)
    # Rows of bricks are half as high as a brick is long; every other row is shifted by half a brick. The shift and the
    # tone of a plank change in the middle of the joint, where the ground covers them.
    row = torch.floor(2 * v + joint / 2)
    bricks = _pulses(u + 0.5 * row, 1 - joint / 2, footprint) * _pulses(2 * v, 1 - joint, 2 * footprint)

    figure = torch.zeros_like(u)
    for name, coverage in zip(PATTERNS, (stripes, tiles, windows, planks, bricks), strict=True):
        figure = torch.where(pattern == PATTERNS.index(name), coverage, figure)
    tone = 0.18 * (torch.floor(u + joint / 2).remainder(3) - 1)  # planks: dark, middle, light, dark, ...
    return figure, torch.where(pattern == PATTERNS.index("planks"), tone, torch.zeros_like(u))


def _pulses(t, fill, footprint):
    """A periodic pulse (1 for the share ``fill`` of each period, else 0), averaged over a pixel of width ``footprint``."""

    def integral(t):
        whole = torch.floor(t)
        return whole * fill + torch.minimum(t - whole, torch.as_tensor(fill))

    return (integral(t + footprint / 2) - integral(t - footprint / 2)) / footprint
