"""Weights, pictures and holes by formula, for networks whose features the sines of ``formula`` would leave dead."""

import json
from pathlib import Path

import numpy as np
import torch


def numbers(k, n):
    """n numbers in (-1, 1), those of entry number k: a hash of their places."""
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(k * 0x85EBCA77 & 0xFFFFFFFF)
    for factor in (0x7FEB352D, 0x846CA68B):
        x ^= x >> np.uint32(16 if factor == 0x7FEB352D else 15)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return (x + 0.5) / 2**31 - 1


def state_by_hash(keys, scale, idle=(), starts=""):
    """A state whose entry number k holds ``scale(name, s)`` of the numbers s of k, rounded to float32, in float64.

    Args:
        keys: the shape of every entry by its name, in order; or the path of a file that has them.
        scale: (name, s) -> array.
        idle: ends of names that are counted and left out.
        starts: of the names that are wanted; all others are counted and left out.
    """
    state, keys = {}, json.loads(keys.read_text()) if isinstance(keys, Path) else keys
    for k, (name, shape) in enumerate(keys.items()):
        if name.startswith(starts) and not name.endswith(tuple(idle)):
            values = scale(name, numbers(k, int(np.prod(shape))).reshape(shape))
            state[name] = torch.from_numpy(np.asarray(values, np.float32)).double()
    return state


def picture_by_formula(height, width):
    """(1, 3, H, W), float64, whole numbers from 0 to 255."""
    y, x, c = np.arange(height)[:, None, None] / height, np.arange(width)[:, None] / width, np.arange(3)
    v = 0.5 + 0.25 * np.sin(2 * np.pi * ((2 + c) * x + (1 + c) * y) + c) + 0.2 * np.cos(2 * np.pi * (5 * y - 3 * x * (1 + c)))
    return torch.from_numpy(np.clip(np.round(255 * v), 0, 255)).permute(2, 0, 1)[None].contiguous()
