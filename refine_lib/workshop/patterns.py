"""A wider world of drawn patterns: what the next embedded network is trained on, to continue patterns that it was not shown.

A picture is one to three planes, each with a pattern on a lattice of its own: rotated, sheared, stretched, in perspective, in
any colors. Stripes, checks, windows, tiles, bricks, dots, rings, hexagons, waves, zigzags, planks, plaids, targets, clouds.
As in ``planes``, a scene is numbers and drawing is a formula of a pixel's place, so a scene can be drawn at any size.
"""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from refine_lib.scenes.planes import _along, _noise, _pulses, _some_of

# How often each kind of pattern occurs, in relation to the others. Regular ones, which tell what a hole hides, come most often;
# noise, soft edges and frames, which a small network spends its weights on in vain, come seldom.
KINDS = {
    "stripes": 3,
    "checks": 3,
    "windows": 4,
    "bricks": 2,
    "dots": 2,
    "rings": 0.7,
    "hexagons": 1.5,
    "waves": 1,
    "zigzags": 1,
    "planks": 1,
    "plaids": 1,
    "targets": 0.5,
    "clouds": 0.4,
    "plain": 0.3,
}
N_PLANES = 3
OUTLINES = {"line": 0.7, "circle": 0.12, "box": 0.18}  # of what lies in front, and how often each occurs
FOOT_OF_HEXAGON = math.sqrt(3) / 2


@dataclass(frozen=True)
class PatternScenes:
    """The numbers behind a batch of pictures. Tensors start with (B, 3), picture and plane; later planes lie in front."""

    kind: torch.Tensor  # (B, 3), index into KINDS
    angle: torch.Tensor  # (B, 3), of the lattice on its plane, in radians
    periods: torch.Tensor  # (B, 3), of the pattern in half a picture's side
    aspect: torch.Tensor  # (B, 3), length of a cell along its second direction in relation to the first
    shear: torch.Tensor  # (B, 3), how far a row is shifted against the one before, in periods
    tilt: torch.Tensor  # (B, 3, 2), how fast the plane runs away along x and y: its perspective
    phase: torch.Tensor  # (B, 3, 2), shift of the pattern along its two directions, in periods
    fill: torch.Tensor  # (B, 3, 2), share of a period that is figure, along the two directions
    turns: torch.Tensor  # (B, 3, 2), every how many columns and rows the second figure color has its turn; 0 is never
    colors: torch.Tensor  # (B, 3, 3, 3), ground and two figures, RGB in [0, 1]
    tone: torch.Tensor  # (B, 3), how much cells differ in brightness
    light: torch.Tensor  # (B, 3, 2), change of brightness along x and y
    softness: torch.Tensor  # (B, 3), width of the pattern's edges, in periods
    grain: torch.Tensor  # (B, 3), strength of the noise on the plane
    roughness: torch.Tensor  # (B, 3), of each octave of the noise in relation to the one before
    stretch: torch.Tensor  # (B, 3), of the noise along the pattern
    noise_at: torch.Tensor  # (B, 3, 2), where the plane lies in the endless noise
    outline: torch.Tensor  # (B, 3), index into OUTLINES
    place: torch.Tensor  # (B, 3, 5), x and y of the outline's center, its direction, half its width and height
    frame: torch.Tensor  # (B, 3), width of the line along the outline, half a picture's side being 1
    there: torch.Tensor  # (B, 3), 1 where the plane is drawn at all

    @classmethod
    def random(cls, batch: int = 1, seed: int = 0) -> "PatternScenes":
        """Draws scenes at random; the random numbers come from the CPU, so that a seed is the same scenes on every device."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(batch, N_PLANES, *shape, generator=generator)

        def chance(share):
            return uniform(0, 1) < share

        weights = torch.tensor(list(KINDS.values()), dtype=torch.float32)
        kind = torch.multinomial(weights, batch * N_PLANES, True, generator=generator).view(batch, N_PLANES)
        clouds = kind == list(KINDS).index("clouds")
        grid = chance(0.15)[..., None] * 0.5  # a grid of thin lines or wide tiles, in place of cells half as wide as a period
        upright = torch.where(chance(0.3), 0.0, 1.0)  # walls and floors are often seen straight on
        n_planes = torch.multinomial(torch.tensor([0.5, 0.35, 0.15]), batch, True, generator=generator)[:, None] + 1
        fill = uniform(0.35, 0.7, 2)
        fill = torch.where(grid > 0, torch.where(chance(0.5)[..., None], fill * 0.3, 1 - fill * 0.3), fill)
        outline = torch.multinomial(torch.tensor(list(OUTLINES.values())), batch * N_PLANES, True, generator=generator)
        turn = torch.where(chance(0.65)[..., None], 0, torch.randint(0, 4, (batch, N_PLANES, 2), generator=generator))
        return cls(
            kind=kind,
            angle=uniform(-0.06, 0.06)
            + torch.randint(0, 4, (batch, N_PLANES), generator=generator) * math.pi / 2
            + upright * uniform(-math.pi / 4, math.pi / 4),
            periods=torch.exp(uniform(math.log(0.5), math.log(3.4))),
            aspect=torch.where(chance(0.5), 1.0, torch.exp(uniform(-0.7, 0.7))),
            shear=torch.where(chance(0.65), 0.0, uniform(-0.6, 0.6)),
            tilt=uniform(-0.35, 0.35, 2) * torch.where(chance(0.3), 0.0, 1.0)[..., None],
            phase=uniform(0, 1, 2),
            fill=fill,
            turns=turn,
            colors=_palettes(uniform, chance),
            tone=torch.where(chance(0.12), uniform(0.03, 0.2), 0.0),
            light=uniform(-0.15, 0.15, 2),
            softness=torch.where(chance(0.06), uniform(0.03, 0.2), 0.0),
            grain=torch.where(clouds, uniform(0.1, 0.8), torch.where(chance(0.12), uniform(0.03, 0.2), 0.0)),
            roughness=uniform(0.35, 0.65),
            stretch=torch.where(chance(0.3), uniform(2.0, 6.0), 1.0),
            noise_at=uniform(20, 200, 2),
            outline=outline.view(batch, N_PLANES),
            place=torch.cat([uniform(-0.6, 0.6, 2), uniform(0, 2 * math.pi, 1), uniform(0.25, 0.8, 2)], dim=-1),
            frame=torch.where(chance(0.1), uniform(0.02, 0.08), 0.0),
            there=(torch.arange(N_PLANES) < n_planes).float(),
        )

    def __getitem__(self, these: slice) -> "PatternScenes":
        """The scenes of a slice."""
        return _some_of(self, these)

    def draw(self, size: int, device: str | torch.device = "cpu") -> torch.Tensor:
        """Draws the pictures at a resolution: float32 images (B, 3, size, size) in [0, 1].

        Args:
            size: of the side of the square pictures, in pixels.
            device: where they are drawn.
        """
        there = self.there.flatten().nonzero()[:, 0]
        plane = SimpleNamespace(**{name: value.flatten(0, 1)[there].to(device) for name, value in vars(self).items()})
        centers = (torch.arange(size, device=device) + 0.5) * 2 / size - 1
        plane.x, plane.y = (t.expand(len(there), -1, -1) for t in (centers[None, None, :], centers[None, :, None]))
        plane.pixel = torch.full((len(there), 1, 1), 2 / size, device=device)
        painted, (cover, line) = _painted(plane), _outlines(plane)
        ground = plane.colors[:, 0, :, None, None]
        painted = torch.where(line[:, None] > 0, torch.lerp(painted, 0.5 * ground, line[:, None]), painted)
        pictures = torch.zeros(len(self.kind), 3, size, size, device=device)
        for number in range(N_PLANES):  # from the back to the front
            these = (there % N_PLANES == number).nonzero()[:, 0]
            at = there[these] // N_PLANES
            pictures[at] = torch.lerp(pictures[at], painted[these], cover[these][:, None]) if number else painted[these]
        return pictures.clamp(0, 1)


def random_patterns(size: int, batch: int = 1, seed: int = 0, device: str | torch.device = "cpu") -> torch.Tensor:
    """Pictures (B, 3, size, size) in [0, 1] of the wider world that a seed gives; the same scenes at every size."""
    return PatternScenes.random(batch, seed).draw(size, device)


def _palettes(uniform, chance):
    """Colors (B, 3, 3, 3): any, from gray to vivid; the figures differ from the ground, or there is nothing to continue."""
    colors = uniform(0, 1, 3, 3)
    vivid = uniform(0.1, 1.0, 1, 1)
    colors = torch.lerp(colors.mean(-1, keepdim=True), colors, vivid)
    brightness = colors.mean(-1, keepdim=True)
    ground = uniform(0.1, 0.9, 1, 1)
    step = uniform(0.15, 0.5, 1, 1) * torch.where(ground < 0.5, 1.0, -1.0)
    other = torch.where(chance(0.6)[..., None, None], step * 0.4, -step * 0.5)
    wanted = torch.cat([ground, ground + step, ground + other], dim=2)
    return (colors - brightness + wanted).clamp(0.01, 0.99)


def _painted(plane):
    """All planes, (N, 3, H, W), each over the whole picture."""
    tilt, light = (slope[:, 0, None, None] * plane.x + slope[:, 1, None, None] * plane.y for slope in (plane.tilt, plane.light))
    plane.scale = plane.periods[:, None, None] / (1 + tilt)  # periods in half a picture's side, at each pixel
    noise = _noise(plane)
    figure, second, tone = torch.empty_like(tilt), torch.zeros_like(tilt), torch.zeros_like(tilt)
    for number, kind in enumerate(KINDS):
        these = (plane.kind == number).nonzero()[:, 0]
        if len(these):
            one = _some_of(plane, these)
            if kind == "clouds":
                figure[these] = (0.5 + noise[these]).clamp(0, 1)
            else:
                figure[these], column, row = DRAWN[kind](one, *_lattice(one))
                second[these], tone[these] = _second_color(one, column, row), _tone(one, column, row)
    colors = plane.colors[..., None, None]
    figures = torch.where(second[:, None] > 0, colors[:, 2], colors[:, 1])
    return torch.lerp(colors[:, 0], figures, figure[:, None]) * (1 + light + noise + figure * tone)[:, None]


def _lattice(plane):
    """Where each pixel lies on the sheared and stretched lattice, in periods, and a pixel's width along both directions."""
    u, v = _along(plane)
    aspect, shear = plane.aspect[:, None, None], plane.shear[:, None, None]
    v = v / aspect
    u, v = u + shear * v + plane.phase[:, 0, None, None], v + plane.phase[:, 1, None, None]
    footprint = plane.pixel * plane.scale
    soft = plane.softness[:, None, None]
    return u, v, footprint * (1 + (shear / aspect) ** 2).sqrt() + soft, footprint / aspect + soft


def _second_color(plane, column, row):
    """1 in the cells whose turn it is to have the second figure color, (N, H, W)."""
    every_column, every_row = plane.turns[:, 0, None, None], plane.turns[:, 1, None, None]
    in_column = (every_column > 0) & (torch.remainder(column, every_column.clamp(min=1)) == 0)
    in_row = (every_row > 0) & (torch.remainder(row, every_row.clamp(min=1)) == 0)
    return (in_column ^ in_row).float()


def _tone(plane, column, row):
    """Change of brightness of each cell, in a rhythm of a few cells, (N, H, W)."""
    return plane.tone[:, None, None] * (torch.remainder(column + 2 * row, 3) - 1)


def _inside(distance, footprint):
    """Share of a pixel that lies inside an outline, from the distance of its center to it, positive inside."""
    return (distance / footprint + 0.5).clamp(0, 1)


def _fills(plane):
    return plane.fill[:, 0, None, None], plane.fill[:, 1, None, None]


# Each kind gives the figure's share of every pixel and the number of the column and of the row of the cell that it belongs to.
# A pulse begins at a whole number, so the middle of a gap lies half of it before: there the number of a cell may change unseen.


def _stripes(plane, u, v, du, dv):
    fill, _ = _fills(plane)
    return _pulses(u, fill, du), torch.floor(u + (1 - fill) / 2), torch.zeros_like(u)


def _checks(plane, u, v, du, dv):
    odd_u, odd_v = _pulses(u, 0.5, du), _pulses(v, 0.5, dv)
    return odd_u + odd_v - 2 * odd_u * odd_v, torch.zeros_like(u), torch.zeros_like(v)


def _windows(plane, u, v, du, dv):
    fill_u, fill_v = _fills(plane)
    cells = torch.floor(u + (1 - fill_u) / 2), torch.floor(v + (1 - fill_v) / 2)
    return _pulses(u, fill_u, du) * _pulses(v, fill_v, dv), *cells


def _bricks(plane, u, v, du, dv):
    joint = 0.04 + 0.3 * (plane.fill[:, 0, None, None] - 0.35).clamp(0, 0.35)  # of a brick's height
    row = torch.floor(2 * v + joint / 2)  # half as high as a brick is long
    u = u + torch.where(plane.turns[:, 1, None, None] == 3, 1 / 3, 0.5) * row
    figure = _pulses(u, 1 - joint / 2, du) * _pulses(2 * v, 1 - joint, 2 * dv)
    return figure, torch.floor(u + joint / 4), row


def _from_middle(u, v):
    """Where a pixel lies in its cell, from the middle, and the cell's column and row."""
    column, row = torch.floor(u), torch.floor(v)
    return u - column - 0.5, v - row - 0.5, column, row


def _dots(plane, u, v, du, dv):
    v = v * torch.where(plane.turns[:, 1, None, None] == 3, 1 / FOOT_OF_HEXAGON, 1.0)
    u = u + torch.where(plane.turns[:, 1, None, None] >= 2, 0.5, 0.0) * torch.floor(v)  # every other row in the gaps
    x, y, column, row = _from_middle(u, v)
    radius = 0.15 + 0.45 * plane.fill[:, 0, None, None].clamp(0.1, 0.7)
    return _inside(radius - torch.hypot(x, y), du), column, row


def _rings(plane, u, v, du, dv):
    x, y, column, row = _from_middle(u, v)
    radius, width = 0.32, 0.05 + 0.2 * plane.fill[:, 1, None, None]
    return _inside(width / 2 - (torch.hypot(x, y) - radius).abs(), du), column, row


def _hexagons(plane, u, v, du, dv):
    # The nearest of two square lattices' middles, shifted against each other by half a cell, is the hexagon that a pixel is in.
    v = v / (2 * FOOT_OF_HEXAGON)
    first, second = _from_middle(u, v), _from_middle(u + 0.5, v + 0.5)
    nearer = first[0] ** 2 + 3 * first[1] ** 2 < second[0] ** 2 + 3 * second[1] ** 2
    x, y, column, row = (torch.where(nearer, a, b) for a, b in zip(first, second, strict=True))
    x, y = x.abs(), (2 * FOOT_OF_HEXAGON * y).abs()
    to_edge = 0.5 - torch.maximum(x, 0.5 * x + FOOT_OF_HEXAGON * y)
    joint = 0.01 + 0.25 * (0.7 - plane.fill[:, 0, None, None]).clamp(0, 0.35)
    return _inside(to_edge - joint, du), column + row, 2 * row + ~nearer


def _waves(plane, u, v, du, dv):
    swing = 0.6 * plane.fill[:, 1, None, None]
    return _stripes(plane, u + swing * torch.sin(math.pi * v), v, du * (1 + 0.5 * math.pi * swing), dv)


def _zigzags(plane, u, v, du, dv):
    swing = 1.2 * plane.fill[:, 1, None, None]
    return _stripes(plane, u + swing * (torch.remainder(v, 1) - 0.5).abs(), v, du * (1 + swing), dv)


def _planks(plane, u, v, du, dv):
    joint = 0.03 + 0.2 * (plane.fill[:, 0, None, None] - 0.35).clamp(0, 0.35)
    column = torch.floor(u + joint / 2)
    v = 0.25 * v + torch.remainder(column, 4) * 0.38  # long boards, whose ends do not meet
    return _pulses(u, 1 - joint, du) * _pulses(v, 1 - joint / 4, 0.25 * dv), column, torch.floor(v + joint / 8)


def _plaids(plane, u, v, du, dv):
    fill_u, fill_v = _fills(plane)
    return 0.5 * _pulses(u, fill_u, du) + 0.5 * _pulses(v, fill_v, dv), torch.zeros_like(u), torch.zeros_like(v)


def _targets(plane, u, v, du, dv):
    middle = 4 * (plane.phase[:, :, None, None] - 0.5)
    radius = torch.hypot(u - middle[:, 0], v - middle[:, 1])
    return _stripes(plane, radius, v, du, dv)


def _plain(plane, u, v, du, dv):
    return torch.zeros_like(u), torch.zeros_like(u), torch.zeros_like(u)


DRAWN = {
    "stripes": _stripes,
    "checks": _checks,
    "windows": _windows,
    "bricks": _bricks,
    "dots": _dots,
    "rings": _rings,
    "hexagons": _hexagons,
    "waves": _waves,
    "zigzags": _zigzags,
    "planks": _planks,
    "plaids": _plaids,
    "targets": _targets,
    "plain": _plain,
}


def _outlines(plane):
    """Share of each pixel that a plane covers, and that the line along its outline covers, each (N, H, W)."""
    x0, y0, angle, wide, high = plane.place.T[..., None, None]
    x, y = plane.x - x0, plane.y - y0
    along, across = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    outline = plane.outline[:, None, None]
    line, circle = along, wide - torch.hypot(x, y)
    box = torch.minimum(wide - along.abs(), high - across.abs())
    inside = torch.where(outline == 0, line, torch.where(outline == 1, circle, box))
    frame = plane.frame[:, None, None]
    return _inside(inside, plane.pixel), _inside(frame / 2 - (inside - frame / 2).abs(), plane.pixel) * (frame > 0)
