"""The banks that ``leaves`` looks up: outlines as maps of distances, and textures that repeat without a seam.

A bank is drawn by formulas alone, in some seconds, and serves many pictures. There is no end of banks: a network that trains
for days meets ever new outlines and textures.
"""

import functools
import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch.nn.functional import grid_sample

TILE = 256  # side of a texture, in texels; it repeats without a seam
OUTLINE = 112  # side of an outline's map of distances, in texels
REACH = 1.4  # half the side of that map; the outline itself lies in the disc of radius 1, but for the ridges

# --- The bank of outlines ------------------------------------------------------------------------------------------------

# How many outlines of each kind the bank holds, and how often a group of leaves has the kind.
KINDS = {"blob": (40, 3), "round": (24, 3), "rock": (24, 2), "box": (24, 4), "bar": (12, 1.5), "branch": (20, 1.5),
         "cloud": (24, 2.5), "discs": (24, 2), "leaf": (12, 2), "ring": (10, 0.7), "star": (12, 0.8)}  # fmt: skip


@functools.lru_cache(maxsize=2)  # that of the training, and that of the pictures it is watched with
def outlines(bank):
    """The outlines of a bank: an atlas (1, 1, H, W) of signed distances in radii, positive inside."""
    rng = np.random.default_rng([1, bank])
    steps = ((np.arange(OUTLINE) + 0.5) / OUTLINE * 2 - 1) * REACH
    x, y = np.meshgrid(steps, steps)
    kinds = (kind for kind, (first, end) in OUTLINE_RANGES.items() for _ in range(first, end))
    return _atlas(np.stack([_distances(_outline(kind, x, y, rng)) for kind in kinds])[:, None], "edge")


def _distances(level):
    """About the distance to where a level (H, W) is 0: by its slope, exact near the outline."""
    down, across = np.gradient(level, 2 * REACH / OUTLINE)
    return np.clip(level / np.maximum(np.hypot(down, across), 0.35), -0.6, 0.6)


def _outline(kind, x, y, rng):
    """One outline: a level (H, W), positive inside, at places x and y (H, W) from -REACH to REACH."""
    far, turn = np.hypot(x, y), np.arctan2(y, x)
    if kind == "everywhere":
        return np.ones_like(x)
    if kind == "ridge":  # the outline of hills, trees or a table: a sum of waves, 1/f^a
        waves = np.arange(1, 25)
        heights = rng.normal(0, 1, 24) / waves ** rng.uniform(1.0, 2.0) * rng.uniform(0, 0.12) * (rng.random() < 0.7)
        return y - (heights * np.sin(x[..., None] * waves * 2.2 + rng.uniform(0, 7, 24))).sum(-1)
    if kind == "blob":
        waves = np.arange(1, 9)
        parts = rng.normal(0, 1, 8) / waves ** rng.uniform(0.8, 1.6) * rng.uniform(0.05, 0.35)
        radius = 1 + (parts * np.cos(turn[..., None] * waves + rng.uniform(0, 7, 8))).sum(-1)
        return radius / radius.max() - far
    if kind == "round":  # superellipses, some bent to bananas
        power = rng.uniform(1.5, 4)
        flat, bend = rng.uniform(0.3, 1), rng.uniform(0, 0.6) * (rng.random() < 0.4)
        v = y - bend * (x**2 - 0.4)
        return 1 - ((np.abs(x) / 0.85) ** power + (np.abs(v) / (0.85 * flat)) ** power) ** (1 / power)
    if kind == "rock":  # polygons with rounded corners
        angles = np.arange(8) * 2 * math.pi / 8 + rng.normal(0, 0.35, 8)
        angles = angles[: rng.integers(4, 9), None, None]
        sides = rng.uniform(0.45, 0.85, angles.shape) - x * np.cos(angles) - y * np.sin(angles)
        sharpness = rng.uniform(8, 60)
        return -np.log(np.exp(-sharpness * sides).sum(0) + np.exp(-sharpness * (1 - far))) / sharpness
    if kind == "box":
        half = np.array([math.cos(a := rng.uniform(0.15, 0.8)), math.sin(a)]) * 0.98
        corner = rng.uniform(0, 0.5) * half.min() * (rng.random() < 0.6)
        level = _box(x, y, half, corner)
        if rng.random() < 0.25:  # a window's frame
            level = np.minimum(level, -_box(x, y, half - half.min() * rng.uniform(0.15, 0.5), corner))
        return level
    if kind == "bar":
        v = y - rng.uniform(0, 0.2) * (rng.random() < 0.5) * (x**2 - 0.4)
        return _box(x, v, (0.97, rng.uniform(0.02, 0.12)), 0.01)
    if kind == "branch":
        return _branch(x, y, rng)
    if kind == "cloud":  # where a smooth noise is high, near the middle
        noise = _noise(OUTLINE, rng.uniform(1.6, 2.6), rng)
        return rng.uniform(0.3, 0.9) * noise + rng.uniform(0.6, 1.3) - 2.5 * np.maximum(far, 0.2) ** 2
    if kind == "discs":
        radius, away, angles = rng.uniform((0.1, 0.2, 0), (0.45, 1, 7), (rng.integers(3, 12), 3)).T[..., None, None]
        away = away * (1 - radius)
        return (radius - np.hypot(x - away * np.cos(angles), y - away * np.sin(angles))).max(0)
    if kind == "leaf":  # where two discs meet
        radius = rng.uniform(1.05, 2.5)
        aside, v = math.sqrt(radius**2 - 0.95), np.abs(y - rng.normal(0, 0.15) * (x**2 - 0.5))
        return radius - np.hypot(x, v + aside)
    if kind == "ring":
        width = rng.uniform(0.05, 0.25)
        return width - np.abs(np.hypot(x, y * rng.uniform(1, 1.6)) - (1 - width))
    depth, petals = rng.uniform(0.1, 0.5), rng.integers(3, 9)  # a star, or a flower
    return 1 - depth + depth * np.cos(petals * turn) * (1 + 0.2 * np.sin(turn)) / 1.2 - far


def _box(x, y, half, corner):
    """The signed distance to a box with round corners, positive inside."""
    u, v = np.abs(x) - half[0] + corner, np.abs(y) - half[1] + corner
    return corner - np.hypot(np.maximum(u, 0), np.maximum(v, 0)) - np.minimum(np.maximum(u, v), 0)


def _branch(x, y, rng):
    """A crooked branch with twigs: the union of tapering sticks."""
    joints = [np.array([-0.98, 0.0])] + [np.array([t, rng.normal(0, 0.09)]) for t in np.linspace(-0.5, 0.98, 5)]
    width = rng.uniform(0.03, 0.09)
    widths = width * (1 - 0.13 * np.arange(6))
    sticks = list(zip(joints[:-1], joints[1:], widths[:-1], widths[1:], strict=True))
    for _ in range(rng.integers(0, 7)):
        start, end, thick, _ = sticks[rng.integers(5)]
        a = rng.normal(0, 0.9)
        tip = start + rng.uniform(0.3, 0.8) * np.array([math.cos(a), math.sin(a)])
        sticks.append((start, tip / max(1, np.hypot(*tip)), thick * 0.7, thick * 0.25))
    level = np.full_like(x, -9.0)
    for (ax, ay), (bx, by), thick, thin in sticks:
        part = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1)
        away = np.hypot(x - ax - part * (bx - ax), y - ay - part * (by - ay))
        level = np.maximum(level, thick + part * (thin - thick) - away)
    return level


# --- The bank of textures ------------------------------------------------------------------------------------------------

# How many textures of each kind the bank holds, and how often a group has the kind.
TEXTURES = {"noise": (26, 8), "veins": (8, 1.5), "spots": (6, 1), "waves": (12, 1.5), "bricks": (14, 1.5), "cells": (8, 1.2),
            "litter": (14, 3)}  # fmt: skip
KIND_SHARES = np.array([share for _, share in KINDS.values()]) / sum(share for _, share in KINDS.values())
TEXTURE_SHARES = np.array([share for _, share in TEXTURES.values()]) / sum(share for _, share in TEXTURES.values())


def _ranges(counts):
    """{kind: (first, one past last)} of a bank that holds so many of each kind."""
    last = np.cumsum(list(counts.values())).tolist()
    return {kind: (end - count, end) for (kind, count), end in zip(counts.items(), last, strict=True)}


OUTLINE_RANGES = _ranges({"everywhere": 1, "ridge": 32} | {kind: count for kind, (count, _) in KINDS.items()})
TEXTURE_RANGES = _ranges({kind: count for kind, (count, _) in TEXTURES.items()})


@functools.lru_cache(maxsize=2)
def textures(bank):
    """The textures of a bank: an atlas (1, 2, H, W), light and mix of colors, mean 0 and deviation 1."""
    rng = np.random.default_rng([2, bank])
    kinds = (kind for kind, (first, end) in TEXTURE_RANGES.items() for _ in range(first, end))
    return _atlas(np.array([[_standard(part) for part in _texture(kind, rng)] for kind in kinds]), "wrap")


def _atlas(tiles, rim):
    """Tiles (K, channels, side, side), one under another, each with a rim: float32 (1, channels, K * (side + 2), side + 2)."""
    tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=rim).transpose(1, 0, 2, 3)
    return torch.from_numpy(np.ascontiguousarray(tiles.reshape(1, len(tiles), -1, tiles.shape[-1]), np.float32))


def _standard(values):
    return np.clip((values - values.mean()) / values.std(), -3, 3)


def _noise(side, power, rng, stretch=1.0, slope=(1, 0)):
    """Noise (side, side) of amplitude 1/f^power that repeats without a seam, drawn out along a direction (x, y)."""
    down, across = np.meshgrid(np.fft.fftfreq(side) * side, np.fft.fftfreq(side) * side, indexing="ij")
    along, aside = across * slope[0] + down * slope[1], down * slope[0] - across * slope[1]
    frequency = np.maximum(np.hypot(along * stretch, aside), 0.7)
    return _standard(np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / frequency**power).real)


def _texture(kind, rng):
    """One texture: light and mix of colors, two (TILE, TILE) that repeat without a seam."""
    stretch, turn = math.exp(abs(rng.normal(0, 0.9))), rng.uniform(0, math.pi)

    def noise(power):
        return _noise(TILE, power, rng, stretch, (math.cos(turn), math.sin(turn)))

    light, mix = noise(rng.uniform(0.7, 1.5)), noise(rng.uniform(1.0, 2.0))
    y, x = (np.mgrid[:TILE, :TILE] + 0.5) / TILE
    if kind == "veins":
        ridge = np.abs(noise(rng.uniform(1.3, 2.0)))
        return np.exp(-((ridge / rng.uniform(0.1, 0.6)) ** 2)) * rng.choice([-1, 1]) + 0.2 * light, ridge + 0.5 * mix
    if kind == "spots":
        spots = np.tanh(rng.uniform(2, 10) * (noise(rng.uniform(1.2, 2.0)) - rng.uniform(-0.5, 1)))
        return spots + 0.25 * light, spots + 0.2 * mix
    if kind in ("waves", "bricks"):
        bent = rng.uniform(0, 0.012 if kind == "bricks" else 0.08)
        x, y = x + bent * _noise(TILE, 2.2, rng), y + bent * _noise(TILE, 2.2, rng)
    if kind == "waves":  # water, ripples, cloth
        wave = np.sin(2 * math.pi * (x * rng.integers(-6, 7) + y * rng.integers(4, 24)))
        wave = np.tanh(rng.uniform(0.3, 3) * (wave + rng.uniform(-0.6, 0.6))) * (1 + rng.uniform(0, 0.5) * mix)
        return wave + rng.uniform(0.1, 0.6) * light, wave * (rng.random() < 0.5) + 0.5 * mix
    if kind == "bricks":  # planks and tiles too
        rows = 2 * rng.integers(2, 9)
        columns = max(1, round(rows / math.exp(rng.uniform(0, 2))))
        row = np.floor(y * rows).astype(int) % rows
        place = x * columns + row * rng.choice([0, 0.5])
        column = np.floor(place).astype(int) % columns
        joint = np.minimum(np.minimum(y * rows % 1, 1 - y * rows % 1) / rows, np.minimum(place % 1, 1 - place % 1) / columns)
        joint = np.clip(joint / rng.uniform(0.004, 0.02), 0, 1)
        tones = rng.normal(0, 1, (2, rows, columns))
        light = rng.uniform(0, 0.6) * tones[0, row, column] + rng.uniform(0.1, 0.6) * light
        mix = joint + rng.uniform(0, 1) * tones[1, row, column] + 0.3 * mix
        return rng.choice([-2.5, 2.5]) * (1 - joint) + joint * light, mix
    if kind == "cells":  # pebbles, cracked earth, scales
        points, flat = rng.random((rng.integers(60, 900), 2)), rng.uniform(1, 2.5)
        ground = np.stack([(x + 0.01 * _noise(TILE, 2, rng)) % 1, (y + 0.01 * _noise(TILE, 2, rng)) % 1 * flat], -1)
        far, near = cKDTree(points * (1, flat), boxsize=(1, flat)).query(ground.reshape(-1, 2), k=2)
        gap = (far[:, 1] - far[:, 0]).reshape(TILE, TILE) * math.sqrt(len(points) / flat)
        tones = rng.normal(0, 1, (2, len(points)))[:, near[:, 0].reshape(TILE, TILE)]
        return np.clip(gap * rng.uniform(1, 6), 0, 1.5) + rng.uniform(0.05, 0.5) * tones[0] + 0.15 * light, tones[1] + 0.4 * mix
    if kind == "litter":
        return _litter(light, mix, rng)
    return light, mix


def _litter(light, mix, rng):
    """Small leaves on light and mix (TILE, TILE): foliage, grass, gravel. The dead leaves below the size of a single leaf."""
    flat, turn, spread = rng.uniform(0.15, 0.9), rng.uniform(0, math.pi), rng.uniform(0.1, 2)
    light, mix = 0.3 * light - 1, mix.copy()
    largest, bulge = rng.uniform(8, 22), rng.uniform(-0.5, 1.2)
    for _ in range(700):
        radius = (2.0**-2 + rng.random() * (largest**-2 - 2.0**-2)) ** -0.5  # r^-3
        reach = math.ceil(radius)
        offsets = np.arange(-reach, reach + 1)
        angle = turn + spread * rng.normal()
        u = (offsets * math.cos(angle))[None, :] + (offsets * math.sin(angle))[:, None]
        v = (offsets * math.cos(angle))[:, None] - (offsets * math.sin(angle))[None, :]
        far = np.sqrt(u * u + v * v / flat**2) / radius
        opacity = np.clip((1 - far) * radius * flat + 0.5, 0, 1)
        at = np.ix_((offsets + rng.integers(TILE)) % TILE, (offsets + rng.integers(TILE)) % TILE)
        light[at] += opacity * (rng.normal(0, 0.8) + bulge * (1 - far) + 0.4 * v / radius - light[at])
        mix[at] += opacity * (rng.normal() - mix[at])
    return light, mix


def look_up(atlas, tile, x, y):
    """Values (N, channels, H, W) of an atlas's tiles (N, 1, 1), at x and y (N, H, W), which run from 0 to 1 over a tile."""
    side = atlas.shape[-1] - 2  # a tile has a rim of one texel, for the interpolation
    number, height, width = x.shape
    grid = torch.empty(1, number * height, width, 2)
    to_unit = 2 / atlas.shape[-2]  # the sampler counts from -1 to 1
    grid[..., 0] = (x * (2 * side / (side + 2)) + (2 / (side + 2) - 1)).flatten(0, 1)
    grid[..., 1] = (y * (side * to_unit) + ((tile * (side + 2) + 1) * to_unit - 1)).flatten(0, 1)
    values = grid_sample(atlas, grid, align_corners=False, padding_mode="border")
    return values.view(atlas.shape[1], number, height, width).transpose(0, 1)
