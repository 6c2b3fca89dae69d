"""Pictures with the statistics of photos: leaves of all sizes that occlude one another, in front of skies, hills and walls.

The world is the dead-leaves model: shapes fall on one another, their number at radius r after r^-3, so that every octave of
sizes covers the same area. That alone gives the spectrum and the heavy-tailed gradients of photos. Textures, shading, shadows,
depth of field and the colors of few materials in one light make it a plausible abstract of a photo.

Leaves come in groups, since things in photos do: foliage, pebbles, rows of windows. Outlines and textures are looked up in two
banks, which are drawn once in a process, by formulas alone. All leaves of about one size are colored together; then each
is laid on the picture, from the back to the front.

Sources: G. Matheron, "Schéma booléen séquentiel de partition aléatoire" (1968); A. B. Lee, D. Mumford, J. Huang, "Occlusion
models for natural images" (IJCV 2001); R. Achddou, Y. Gousseau, S. Ladjal, "Fully synthetic training for image restoration
tasks" (CVIU 2023); "VibrantLeaves" (arXiv 2504.10201, 2025).
"""

import functools
import math

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from scipy.spatial import cKDTree
from torch.nn.functional import grid_sample

# How much each material reflects of red, green and blue, in linear light, in relation to gray.
MATERIALS = np.array(
    [
        [1.00, 1.00, 1.00],  # stone
        [0.95, 0.99, 1.08],  # slate
        [1.22, 0.98, 0.68],  # earth
        [1.12, 1.00, 0.82],  # sand
        [0.88, 1.08, 0.58],  # foliage
        [1.05, 1.05, 0.62],  # dry grass
        [0.78, 1.00, 1.18],  # water
        [1.42, 0.86, 0.66],  # brick, skin
    ]
)
SKY = np.array([0.80, 0.97, 1.24])

TILE = 256  # side of a texture, in texels; it repeats without a seam
OUTLINE = 112  # side of an outline's map of distances, in texels
REACH = 1.4  # half the side of that map; the outline itself lies in the disc of radius 1, but for the ridges
SIDES = (16, 32, 64, 96, 128, 192)  # of the patches for leaves, in pixels; a larger leaf takes the whole picture


def random_leaves(size, batch=1, seed=0, device="cpu"):
    """Draws pictures of the natural world. One thread is fastest: the steps are too small to be shared out.

    Args:
        size: of the side of the square pictures, in pixels. Leaves have radii from 3 pixels to half the side.
        batch: number of pictures. Picture i is the same in a batch of any length.
        seed: of the random numbers, 0 or more.
        device: where the pictures go. They are drawn on the CPU, the same for every device.

    Returns:
        float32 images (batch, 3, size, size) in [0, 1].

    Raises:
        ValueError: where size is below 16 pixels, or batch below 1.
    """
    if size < 16:
        raise ValueError(f"size is {size}; expected 16 pixels or more")
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected 1 or more pictures")
    return torch.stack([_draw(size, np.random.default_rng([seed, number])) for number in range(batch)]).to(device)


def _draw(size, rng):
    """One picture (3, size, size): plans it, colors its leaves, lays them down from the back to the front, takes the photo."""
    groups, blurs = _plan(size, rng)
    first_leaf = np.cumsum([0] + [len(group["x"]) for group in groups])
    blur_before = {int(first_leaf[group]): sigma for group, sigma in blurs.items()}
    leaves = {name: torch.from_numpy(np.concatenate([group[name] for group in groups])) for name in groups[0]}
    picture = torch.zeros(3, size, size)
    for number, leaf in enumerate(_color(leaves, size)):
        if number in blur_before:
            picture = _blur(picture, blur_before[number])
        if leaf is not None:
            _lay(picture, *leaf)
    return _photograph(picture, rng)


# --- The plan: which leaves there are, from the back to the front -------------------------------------------------------


def _plan(size, rng):
    """The groups of leaves from the back to the front, and blurs {group: sigma in pixels} of all that lies behind a group."""
    color = _palette(rng)
    shadow = rng.normal(0, 0.012, 2) * size  # where shadows fall, in pixels: one sun for all
    outlook = rng.random() < 0.5  # a sky and ridges, rather than walls and floors
    slant = rng.uniform(-0.7, 0.7, 2)

    # What fills the picture: a sky or a wall, and surfaces with long edges in front of it, each lower than the one before.
    background = dict(radius=size, at=(0.5, 0.5), shadow=shadow, surface=True)
    sky, haze = color(sky=True), rng.uniform(0, 0.7) * (rng.random() < 0.4)
    if outlook:
        groups = [_group(size, rng, sky, "everywhere", contrast=0.12, textures=("noise",), **background)]
    else:
        groups = [_group(size, rng, color(), "everywhere", slant=slant, **background)]
    level = rng.uniform(0.15, 0.6)
    for _ in range(rng.integers(1, 4) if outlook else rng.integers(0, 3)):
        background["at"] = (0.5, level) if outlook else rng.uniform(0.2, 0.8, 2)
        angle = rng.normal(0, 0.04) if outlook else rng.normal(0, 0.05) + rng.integers(4) * math.pi / 2
        slant = (0, rng.uniform(0, 0.9)) if outlook else rng.uniform(-0.7, 0.7, 2)
        own = color()
        own = own + haze * (sky - own) * outlook
        groups.append(_group(size, rng, own, "ridge", angle=angle, slant=slant, **background))
        level, haze = level + rng.uniform(0.05, 0.3), haze / 2

    # Groups of leaves, until they have taken their share of the time. A radius is as likely in any octave, and leaves of
    # radius r fill an area in a number after r^-2: together r^-3 of all leaves.
    objects, work = [], rng.uniform(0.5, 9.0) * size**2
    while work > 0:
        radius = 3.0 * (size / 6.0) ** rng.random()
        count = rng.uniform(0.05, 0.6) * size**2 / (math.pi * radius**2)
        count = int(np.clip(count, 1, 1 + 600 / radius))
        group = _group(size, rng, color(), radius=radius, count=count, shadow=shadow)
        objects.append((rng.random() + 0.1 * math.log(size / radius), group))  # the large ones rather behind
        work -= count * (3 * radius) ** 2 + 2000
    groups += [group for _, group in sorted(objects, key=lambda item: item[0])]

    # Depth of field: all behind one group is blurred, or the last groups are so near that they are.
    blurs = {}
    if rng.random() < 0.4:
        blurs[int(rng.integers(1, len(groups)))] = size / 256 * math.exp(rng.uniform(-0.3, 1.6))
    if rng.random() < 0.2 and len(objects) > 2:
        for group in groups[-int(rng.integers(1, 3)) :]:
            group["ramp"] += np.float32(size / 256 * rng.uniform(3, 14))
            group["texture_scale"] *= 0.4
            group["contrast"] *= 0.5
    return groups, blurs


def _palette(rng):
    """Draws colors for one picture: a function that gives two (2, 3), in linear light, of one of its few materials."""
    light = 1 + rng.normal(0, 0.07) * np.array([1.0, 0.1, -1.0])  # warm or cool
    materials = MATERIALS[rng.choice(len(MATERIALS), rng.integers(2, 5), replace=False)]
    strength = rng.uniform(0.4, 1.7, len(materials))

    def color(sky=False):
        brightness = math.exp(rng.normal(-1.6, 1.1))
        number = rng.integers(len(materials))
        tint = materials[number] ** strength[number] * np.exp(rng.normal(0, 0.04, 3))
        if rng.random() < 0.06:
            tint = np.exp(rng.normal(0, 0.35, 3))  # a thing that somebody painted
        pair = tint * brightness * np.exp(rng.normal(0, 0.35, (2, 1)))
        if sky:
            pair = SKY ** rng.uniform(0, 1.3, (2, 1)) * rng.uniform(0.4, 0.95, (2, 1))
        return np.clip(light * pair, 0.004, 1)

    return color


def _group(
    size, rng, colors, kind=None, *, radius, shadow, count=1, at=None, angle=None, slant=(0, 0), contrast=None, textures=None,
    surface=False,
):  # fmt: skip
    """A group of leaves that have outlines, colors and textures in common: a dict of float32 and int64 arrays (count, ...).

    Args:
        colors: (2, 3), in linear light. The texture mixes them.
        kind: of outline, or None for a random one.
        radius: of the leaves, in pixels.
        shadow: how far shadows fall along x and y, in pixels.
        at: the middle of the group, in sides of the picture, or None for anywhere.
        angle: of the leaves, in radians, or None for random ones.
        slant: of the surface, which runs away along x and y.
        contrast: of the texture, or None for a random one.
        textures: kinds of textures to choose from, or None for all.
        surface: whether these are no things but what things stand on.
    """
    outlines, kinds = _outlines()[1], _textures()[1]
    x, y, turned, jitter = _arrange(size, rng, radius, count, at)
    kind = kind or rng.choice(list(KINDS), p=KIND_SHARES)
    texture_kind = rng.choice(textures or list(kinds), p=None if textures else TEXTURE_SHARES)
    stretch = math.exp(abs(rng.normal(0, 0.4)) / 2) if not surface else 1.0
    sizes = radius * np.exp(jitter * rng.normal(0, 0.3, count))
    tones = np.exp(rng.normal(0, rng.uniform(0.03, 0.4), (count, 1))) * np.exp(rng.normal(0, 0.03, (count, 3)))
    shape = rng.integers(*outlines[kind], count)
    if rng.random() < 0.5:
        shape[:] = shape[0]
    texture_angle = rng.uniform(0, 2 * math.pi) if rng.random() < 0.5 else 0.0
    shade = rng.normal(0, 0.6 if surface else 0.3, 2)  # change of brightness over a radius, along x and y
    if not surface:  # things are lit by the sun
        shade = -abs(shade[0]) * shadow / np.hypot(*shadow) + 0.3 * shade
    values = dict(
        x=x,
        y=y,
        width=sizes * stretch,
        height=sizes / stretch,
        angle=turned if angle is None else angle,
        ramp=rng.uniform(1.0, 1.5),  # width of the edge, in pixels
        rough=rng.uniform(0, 0.04) * min(radius, 60) * (rng.random() < 0.35),  # of the outline, in pixels
        first=np.clip(colors[0] * tones, 0, 1),
        second=np.clip(colors[1] * tones, 0, 1),
        texture_scale=math.exp(rng.uniform(-1.0, 0.25)),  # texels to a pixel
        texture_angle=texture_angle + (turned if not surface else 0),
        texture_at=rng.random((count, 2)),  # in tiles
        contrast=min(math.exp(rng.normal(-1.75, 0.8)), 0.6) if contrast is None else contrast,
        tint=rng.uniform(0, 1),  # how far the texture goes from one color to the other
        shade=np.ones((count, 1)) * shade,
        bulge=rng.uniform(0, 1.2) * (rng.random() < 0.4 and not surface),  # how much darker the rim is than the middle
        slant=np.ones((count, 1)) * np.asarray(slant, float),
        shadow=rng.uniform(0.2, 0.75) * (not surface and rng.random() < 0.45),  # share of the light that it takes
        soft=rng.uniform(0.05, 0.5) * min(radius, 40) + 2,  # width of the shadow's edge, in pixels
        shadow_at=np.ones((count, 1)) * np.clip(shadow * radius / 40, -10, 10),
    )
    shapes = {name: (count, *np.shape(value)[1:]) for name, value in values.items()}
    group = {name: np.array(np.broadcast_to(value, shapes[name]), np.float32) for name, value in values.items()}
    return group | dict(outline=shape, texture=np.full(count, rng.integers(*kinds[texture_kind])))


def _arrange(size, rng, radius, count, at):
    """Where the leaves of a group are: x and y in pixels, angles, and how much they vary in size: 0 in rows, else 1."""
    middle = (rng.uniform(-0.05, 1.05, 2) if at is None else np.asarray(at)) * size
    if count > 3 and rng.random() < 0.3:  # windows, posts, tiles
        columns = rng.integers(1, count + 1) if rng.random() < 0.4 else math.ceil(math.sqrt(count))
        step = radius * rng.uniform(1.6, 3.5, 2)
        place = np.stack([np.arange(count) % columns - (columns - 1) / 2, np.arange(count) // columns - count / columns / 2])
        place = place * step[:, None] + rng.normal(0, 0.04 * radius, (2, count)) * (rng.random() < 0.4)
        turn = rng.normal(0, 0.15)
        turned, jitter = np.full(count, turn + rng.integers(4) * math.pi / 2), 0.0
        x, y = math.cos(turn) * place[0] - math.sin(turn) * place[1], math.sin(turn) * place[0] + math.cos(turn) * place[1]
    else:  # a heap, or strewn all over
        spread = radius * math.sqrt(count) * rng.uniform(0.5, 1.5, 2) if rng.random() < 0.75 else np.full(2, 0.5 * size)
        x, y = spread[:, None] * rng.normal(0, 1, (2, count)) * (count > 1)
        turned = rng.uniform(0, 2 * math.pi) + rng.uniform(0.05, math.pi) * rng.normal(0, 1, count)
        if rng.random() < 0.3:
            turned = np.round(turned / (math.pi / 2)) * (math.pi / 2) + rng.normal(0, 0.03, count)  # things stand upright
        jitter = 1.0
    return middle[0] + x, middle[1] + y, turned, jitter


# --- Coloring and laying the leaves --------------------------------------------------------------------------------------


def _color(leaves, size):
    """Colors all leaves, those of about one size together. Gives what ``_lay`` takes for each, or None out of the picture."""
    half_x = torch.hypot(leaves["width"] * leaves["angle"].cos(), leaves["height"] * leaves["angle"].sin())
    half_y = torch.hypot(leaves["width"] * leaves["angle"].sin(), leaves["height"] * leaves["angle"].cos())
    # The banks know distances up to 0.6 radii: no edge may be softer than that, or its patch would show.
    widest = torch.sqrt(leaves["width"] * leaves["height"])
    leaves = leaves | {name: torch.minimum(leaves[name], widest) for name in ("ramp", "soft")}
    margin = 1 + leaves["ramp"] / 2 + 3 * leaves["rough"] + leaves["soft"] / 2 * (leaves["shadow"] > 0)
    needed = 2 * (torch.maximum(half_x, half_y) + margin)
    seen = ((leaves["x"] - size / 2).abs() < (size + needed) / 2) & ((leaves["y"] - size / 2).abs() < (size + needed) / 2)
    colored, smallest = [None] * len(needed), 0
    for side in [side for side in SIDES if side < size] + [size]:
        these = (seen & (needed > smallest) & ((needed <= side) | (side == size))).nonzero()[:, 0]
        smallest = side
        for some in these.split(max(1, 2**16 // side**2)):  # as many as fit in the cache
            left = (leaves["x"][some] - side / 2).round() * (side < size)
            top = (leaves["y"][some] - side / 2).round() * (side < size)
            patches = _color_some({name: value[some] for name, value in leaves.items()}, left, top, side, size)
            for number, *leaf in zip(some.tolist(), *patches, left.int().tolist(), top.int().tolist(), strict=True):
                colored[number] = leaf
    return colored


def _color_some(leaves, left, top, side, size):
    """Colors N leaves on patches whose corners are at left and top (N,), in pixels.

    Returns:
        colors (N, 3, side, side), opacities (N, side, side), N shadows (side, side), N shifts (x, y) of these in pixels. A
        shadow is the share of the light that is left, or None.
    """
    leaf = {name: value[:, None, None] for name, value in leaves.items() if value.ndim == 1}
    pixels = torch.arange(side) + 0.5
    x = (left[:, None] + pixels - leaves["x"][:, None])[:, None, :]  # (N, 1, side), from the middle of the leaf
    y = (top[:, None] + pixels - leaves["y"][:, None])[:, :, None]  # (N, side, 1)

    # The distance to the outline, in pixels and positive inside.
    cos, sin = leaf["angle"].cos(), leaf["angle"].sin()
    u, v = x * (cos / leaf["width"]) + y * (sin / leaf["width"]), y * (cos / leaf["height"]) - x * (sin / leaf["height"])
    atlas, _ = _outlines()
    on_map = [(part / (2 * REACH) + 0.5).clamp_(0, 1) for part in (u, v)]
    inside = _look_up(atlas, leaf["outline"], *on_map)[:, 0]
    distance = inside * (leaf["width"] * leaf["height"]).sqrt()

    # The texture, seen at a slant.
    scale = leaf["texture_scale"] / TILE
    cos, sin = leaf["texture_angle"].cos() * scale, leaf["texture_angle"].sin() * scale
    along, across = x * cos + y * sin, y * cos - x * sin
    if leaves["slant"].any():
        slant_x, slant_y = leaves["slant"].T[..., None, None]
        farness = 1 + ((x + leaf["x"]) / size - 0.5) * slant_x + ((y + leaf["y"]) / size - 0.5) * slant_y
        along, across = along / farness, across / farness
    atlas, _ = _textures()
    along, across = (part + (leaves["texture_at"][:, i, None, None] + 64) for i, part in enumerate((along, across)))
    light, mix = _look_up(atlas, leaf["texture"], along.frac_(), across.frac_()).unbind(1)

    # The color: two mixed by the texture, then lit.
    light = light * leaf["contrast"]
    if leaves["rough"].any():
        distance = distance + light * (leaf["rough"] / leaf["contrast"])
    radius = torch.maximum(leaf["width"], leaf["height"])
    light.add_(x / radius * leaves["shade"][:, 0, None, None]).add_(y / radius * leaves["shade"][:, 1, None, None])
    if leaves["bulge"].any():
        light.add_((inside.clamp(0, 0.5) - 0.25) * leaf["bulge"])
    light.add_(1).clamp_(min=0.1)
    mix = mix.mul_(0.5 * leaf["tint"]).add_(0.5).clamp_(0, 1)[:, None]
    first, second = leaves["first"][:, :, None, None], leaves["second"][:, :, None, None]
    colors = (mix * (second - first)).add_(first).mul_(light[:, None])

    opacity = (distance / leaf["ramp"]).add_(0.5).clamp_(0, 1)
    shadows = [
        1 - strength * (its_distance / soft + 0.5).clamp_(0, 1) if strength > 0 else None
        for strength, soft, its_distance in zip(leaves["shadow"].tolist(), leaves["soft"].tolist(), distance, strict=True)
    ]
    shadows_at = leaves["shadow_at"].round().int() * (side < size)  # in a patch of the whole picture they have no room to move
    return colors, opacity, shadows, shadows_at.tolist()



def _look_up(atlas, tile, x, y):
    """Values (N, channels, H, W) of an atlas's tiles (N, 1, 1), at x and y (N, H, W), which run from 0 to 1 over a tile."""
    side = atlas.shape[-1] - 2  # a tile has a rim of one texel, for the interpolation
    number, height, width = x.shape
    grid = torch.empty(1, number * height, width, 2)
    to_unit = 2 / atlas.shape[-2]  # the sampler counts from -1 to 1
    grid[..., 0] = (x * (2 * side / (side + 2)) + (2 / (side + 2) - 1)).flatten(0, 1)
    grid[..., 1] = (y * (side * to_unit) + ((tile * (side + 2) + 1) * to_unit - 1)).flatten(0, 1)
    values = grid_sample(atlas, grid, align_corners=False, padding_mode="border")
    return values.view(atlas.shape[1], number, height, width).transpose(0, 1)


def _lay(picture, colors, opacity, shadow, shadow_at, left, top):
    """Lays a colored leaf (3, h, w) of an opacity (h, w) on the picture, in place, after its shadow (h, w) has fallen."""
    if shadow is not None:
        under, (its_part,) = _overlap(picture, left + shadow_at[0], top + shadow_at[1], shadow)
        under.mul_(its_part)
    under, (its_colors, its_opacity) = _overlap(picture, left, top, colors, opacity)
    under.lerp_(its_colors, its_opacity.expand_as(its_colors))


def _overlap(picture, left, top, *patches):
    """The part of the picture that patches at left and top cover, and the parts of the patches that lie in it: views."""
    size, side = picture.shape[-1], patches[0].shape[-1]
    rows = slice(min(max(top, 0), size), max(min(top + side, size), 0))
    columns = slice(min(max(left, 0), size), max(min(left + side, size), 0))
    its_rows = slice(rows.start - top, max(rows.stop, rows.start) - top)
    its_columns = slice(columns.start - left, max(columns.stop, columns.start) - left)
    return picture[:, rows, columns], [patch[..., its_rows, its_columns] for patch in patches]


def _blur(picture, sigma):
    """The picture, out of focus: two boxes whose variances add up to sigma squared."""
    width = 2 * round((math.sqrt(6 * sigma**2 + 1) - 1) / 2) + 1
    blurred = picture.numpy()
    for axis in (1, 2, 1, 2):
        blurred = uniform_filter1d(blurred, width, axis=axis, mode="nearest")
    return torch.from_numpy(blurred)


def _photograph(picture, rng):
    """The photo (3, size, size) in [0, 1] of linear light: uneven light, vignette, exposure, tone curve and noise."""
    size = picture.shape[-1]
    steps = (torch.arange(size) + 0.5) / size - 0.5
    across, down = steps[None, :], steps[:, None]
    light = 1 + rng.normal(0, 0.25) * across + rng.normal(0, 0.25) * down
    light = light - rng.uniform(0, 0.8) * (rng.random() < 0.5) * (across**2 + down**2)
    if rng.random() < 0.3:  # sun through a canopy, or clouds
        atlas, kinds = _textures()
        u, v = ((part * rng.uniform(0.1, 0.4) + 1 + rng.random()) % 1 for part in (across, down))
        u, v = u.expand(1, size, size), v.expand(1, size, size)
        patches = _look_up(atlas, torch.tensor([[[rng.integers(*kinds["noise"])]]]), u, v)[0, 0]
        light = light * (1 + rng.uniform(0.05, 0.3) * patches)
    picture = picture * light.clamp(min=0.15)

    # Exposed for the mean; the brightest parts roll off. A root is the display's gamma, near enough.
    picture = picture * (math.exp(rng.normal(-1.35, 0.35)) / float(picture.numpy().mean()))  # torch's depends on the threads
    white = rng.uniform(1.5, 4)
    picture = (picture * (1 + picture / white**2) * 1.25 / (1 + picture)).clamp_(0, 1).sqrt_()
    contrast = rng.uniform(0, 0.7)
    picture = picture.lerp(picture * picture * (3 - 2 * picture), contrast)
    noise = abs(rng.normal(0, 0.01))
    return picture.add_(torch.from_numpy(rng.standard_normal(picture.shape, np.float32)), alpha=noise).clamp_(0, 1)


# --- The bank of outlines ------------------------------------------------------------------------------------------------

# How many outlines of each kind the bank holds, and how often a group of leaves has the kind.
KINDS = {"blob": (40, 3), "round": (24, 3), "rock": (24, 2), "box": (24, 4), "bar": (12, 1.5), "branch": (20, 1.5),
         "cloud": (24, 2.5), "discs": (24, 2), "leaf": (12, 2), "ring": (10, 0.7), "star": (12, 0.8)}  # fmt: skip


@functools.cache
def _outlines():
    """The outlines: an atlas (1, 1, H, W) of signed distances in radii, positive inside, and {kind: (first, one past last)}."""
    rng = np.random.default_rng(1)
    steps = ((np.arange(OUTLINE) + 0.5) / OUTLINE * 2 - 1) * REACH
    x, y = np.meshgrid(steps, steps)
    maps, ranges = [], {}
    for kind, count in {"everywhere": 1, "ridge": 32, **{kind: count for kind, (count, _) in KINDS.items()}}.items():
        ranges[kind] = (len(maps), len(maps) + count)
        maps += [_distances(_outline(kind, x, y, rng)) for _ in range(count)]
    return _atlas(np.stack(maps)[:, None], "edge"), ranges


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


@functools.cache
def _textures():
    """The textures: an atlas (1, 2, H, W), light and mix of colors, mean 0 and deviation 1; {kind: (first, one past last)}."""
    rng = np.random.default_rng(2)
    tiles, ranges = [], {}
    for kind, (count, _) in TEXTURES.items():
        ranges[kind] = (len(tiles), len(tiles) + count)
        tiles += [[_standard(part) for part in _texture(kind, rng)] for _ in range(count)]
    return _atlas(np.array(tiles), "wrap"), ranges


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
