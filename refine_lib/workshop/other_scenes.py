"""Pictures of a generator that no network of this package was trained on: to judge networks by.

It shares no code and no design with ``refine_lib.scenes``: numpy in place of torch, and averages of many samples to a pixel in
place of edges filtered by a formula. A network that has learned how one program draws gains nothing here.

Coordinates: x to the right and y down, both from -1 to 1 over the picture, so that 1 is half a picture.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from refine_lib.photos.formats import ALL_FORMATS
from refine_lib.photos.pixels import read_pixels, to_image

SAMPLES = 4  # along each side of a pixel


@dataclass(frozen=True)
class Kind:
    """The ranges that the scenes of a kind are drawn from."""

    n_planes: tuple  # taken in turn, so that each is as frequent as the other
    patterns: tuple
    periods: tuple  # fewest and most in half a picture, where perspective leaves the scale as it is
    tilt: tuple  # of a plane: by how much its distance changes over half a picture
    contrast: float  # smallest mean difference of a plane's two colors
    light: float  # largest change of brightness over half a picture


KINDS = {
    "simple": Kind((1, 2), ("stripes", "checks", "windows"), (1.0, 2.2), (0.0, 0.2), contrast=0.3, light=0.0),
    "busy": Kind((3,), ("stripes", "checks", "windows", "bricks"), (1.2, 3.4), (0.1, 0.4), contrast=0.0, light=0.15),
}


@dataclass(frozen=True)
class Plane:
    """A plane in perspective that carries a pattern of two colors, as numbers."""

    pattern: str
    periods: np.ndarray  # (2,), along the pattern's two axes
    offset: np.ndarray  # (2,), in periods
    filled: np.ndarray  # (2,), the share of a period that the figure takes
    rotation: float  # of the pattern within the plane, in radians
    tilt: np.ndarray  # (2,), how the distance changes with x and y
    colors: np.ndarray  # (2, 3) in [0, 1], of the ground and the figure

    def color_at(self, x, y):
        """The plane's color at places (h, w) of the picture, (h, w, 3)."""
        distance = 1 + self.tilt[0] * x + self.tilt[1] * y
        x, y = x / distance, y / distance
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        u = (cos * x + sin * y) * self.periods[0] + self.offset[0]
        v = (cos * y - sin * x) * self.periods[1] + self.offset[1]
        return self.colors[PATTERNS[self.pattern](u, v, self.filled).astype(int)]


def _stripes(u, v, filled):
    return u % 1 < filled[0]


def _checks(u, v, filled):
    return (np.floor(2 * u) + np.floor(2 * v)) % 2 == 1


def _windows(u, v, filled):
    width, height = np.sqrt(filled)  # so that all windows together take as much of the plane as stripes do
    return (u % 1 < width) & (v % 1 < height)


def _bricks(u, v, filled):
    """Two rows of bricks to a period, every other one shifted by half a brick; the mortar is as wide in both directions."""
    mortar = 0.25 * (1 - filled[0])
    row = np.floor(2 * v)
    return ((u + 0.5 * (row % 2)) % 1 > mortar) & ((2 * v) % 1 > 2 * mortar)


PATTERNS = {"stripes": _stripes, "checks": _checks, "windows": _windows, "bricks": _bricks}  # True where the figure is


@dataclass(frozen=True)
class Scene:
    """Planes, each on its side of the lines that separate it from those before it, and a gradient of light."""

    planes: list
    lines: list  # one fewer than planes: (direction of its normal in radians, distance from the middle)
    light: np.ndarray  # (2,), how the brightness changes with x and y

    def draw(self, size):
        """The picture, float32 (size, size, 3) in [0, 1]: each pixel is the mean of ``SAMPLES**2`` samples."""
        n = size * SAMPLES
        place = (np.arange(n) + 0.5) / n * 2 - 1
        x, y = np.meshgrid(place, place)
        color = self.planes[0].color_at(x, y)
        for plane, (angle, distance) in zip(self.planes[1:], self.lines, strict=True):
            beyond = np.cos(angle) * x + np.sin(angle) * y > distance
            color[beyond] = plane.color_at(x, y)[beyond]
        color *= (1 + self.light[0] * x + self.light[1] * y)[..., None]
        color = color.clip(0, 1).reshape(size, SAMPLES, size, SAMPLES, 3)
        return color.mean(axis=(1, 3)).astype(np.float32)


def random_scene(name, seed, index=0):
    """A scene, as numbers.

    Args:
        name: of one of ``KINDS``.
        seed: of the random numbers.
        index: of the scene among those of the seed; it also says how many planes there are.
    """
    kind = KINDS[name]
    rng = np.random.default_rng((seed, index, list(KINDS).index(name)))  # no two kinds share their numbers
    n_planes = kind.n_planes[index % len(kind.n_planes)]
    planes = [_random_plane(kind, rng) for _ in range(n_planes)]
    lines = [(rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.4)) for _ in planes[1:]]
    return Scene(planes, lines, _vector(rng, rng.uniform(0, kind.light)))


def _random_plane(kind, rng):
    pattern = kind.patterns[rng.integers(len(kind.patterns))]
    periods = rng.uniform(*kind.periods, 2)
    if pattern != "windows":  # checks are squares, bricks twice as long as tall
        periods[:] = periods[0]
    colors = rng.uniform(0, 1, (2, 3))
    while np.abs(colors[0] - colors[1]).mean() < kind.contrast:
        colors = rng.uniform(0, 1, (2, 3))
    return Plane(
        pattern=pattern,
        periods=periods,
        offset=rng.uniform(0, 1, 2),
        filled=rng.uniform(0.35, 0.65, 2),
        rotation=rng.uniform(0, 2 * np.pi),
        tilt=_vector(rng, rng.uniform(*kind.tilt)),
        colors=colors,
    )


def _vector(rng, length):
    angle = rng.uniform(0, 2 * np.pi)
    return length * np.array([np.cos(angle), np.sin(angle)])


def simple_scenes(size, batch=1, seed=0):
    """Draws one plane or two in mild perspective, with stripes, checks or windows of a clear contrast.

    A scene is drawn as a function of place: the same seed gives the same scenes at every size, the first of many too.

    Args:
        size: of the square pictures, in pixels.
        batch: number of scenes.
        seed: of the random numbers, 0 or more.

    Returns:
        float32 (B, 3, size, size) in [0, 1].
    """
    return _draw("simple", size, batch, seed)


def busy_scenes(size, batch=1, seed=0):
    """As ``simple_scenes``: three planes in strong perspective, bricks too, finer patterns, any colors, a gradient of light."""
    return _draw("busy", size, batch, seed)


GENERATORS = {"simple": simple_scenes, "busy": busy_scenes}


def _draw(name, size, batch, seed):
    pictures = np.stack([random_scene(name, seed, index).draw(size) for index in range(batch)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def photos(folder, size=256):
    """Reads every photo in a folder, by the order of their names: its middle square, shrunk.

    Args:
        folder: what in it is no picture is left out.
        size: of the square pictures, in pixels; a photo must not be smaller.

    Returns:
        float32 (B, 3, size, size) in [0, 1].

    Raises:
        NotADirectoryError: where there is no such folder.
        ValueError: where it holds no picture, or one that is damaged or too small.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"folder is {str(folder)!r}; expected a folder of photos")
    paths = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and _is_picture(path)]
    if not paths:
        raise ValueError(f"folder is {str(folder)!r}, which holds no picture; expected photos ({', '.join(ALL_FORMATS)})")
    return torch.cat([_square(path, size) for path in paths])


def _is_picture(path):
    try:
        with Image.open(path, formats=ALL_FORMATS):
            return True
    except UnidentifiedImageError:
        return False


def _square(path, size):
    """The middle square of a photo, (1, 3, size, size)."""
    photo = Image.fromarray(read_pixels(path))
    side = min(photo.size)
    if side < size:
        raise ValueError(f"{path} has a short side of {side} px; expected at least {size} px")
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    box = (left, top, left + side, top + side)
    return to_image(np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS, box=box)))
