"""Pictures with the statistics of photos: leaves of all sizes that occlude one another, in front of skies, hills and walls.

The world is the dead-leaves model: shapes fall on one another, their number at radius r after r^-3, so that every octave of
sizes covers the same area. That alone gives the spectrum and the heavy-tailed gradients of photos. Textures, shading, shadows,
depth of field and the colors of few materials in one light make it a plausible abstract of a photo.

Leaves come in groups, since things in photos do: foliage, pebbles, rows of windows. Outlines and textures are looked up in
``banks``, after some hundred seeds in the next ones. All leaves of about one size are colored together; then each is laid on
the picture, from the back to the front.

Sources: G. Matheron, "Schéma booléen séquentiel de partition aléatoire" (1968); A. B. Lee, D. Mumford, J. Huang, "Occlusion
models for natural images" (IJCV 2001); R. Achddou, Y. Gousseau, S. Ladjal, "Fully synthetic training for image restoration
tasks" (CVIU 2023); "VibrantLeaves" (arXiv 2504.10201, 2025).
"""

import math

import numpy as np
import torch

from refine_lib.workshop import banks, camera

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
BANK_LASTS = 512  # seeds, then the next bank of outlines and textures takes its place
SKY = np.array([0.80, 0.97, 1.24])

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
    randoms = (np.random.default_rng([seed, number]) for number in range(batch))
    return torch.stack([_draw(size, rng, seed // BANK_LASTS) for rng in randoms]).to(device)


def _draw(size, rng, bank):
    """One picture (3, size, size): plans it, colors its leaves, lays them down from the back to the front, takes the photo."""
    groups, blurs = _plan(size, rng)
    first_leaf = np.cumsum([0] + [len(group["x"]) for group in groups])
    blur_before = {int(first_leaf[group]): sigma for group, sigma in blurs.items()}
    leaves = {name: torch.from_numpy(np.concatenate([group[name] for group in groups])) for name in groups[0]}
    picture = torch.zeros(3, size, size)
    for number, leaf in enumerate(_color(leaves, size, bank)):
        if number in blur_before:
            picture = camera.blur(picture, blur_before[number])
        if leaf is not None:
            camera.lay(picture, *leaf)
    return camera.photograph(picture, rng, bank)


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
    outlines, kinds = banks.OUTLINE_RANGES, banks.TEXTURE_RANGES
    x, y, turned, jitter = _arrange(size, rng, radius, count, at)
    kind = kind or rng.choice(list(banks.KINDS), p=banks.KIND_SHARES)
    texture_kind = rng.choice(textures or list(kinds), p=None if textures else banks.TEXTURE_SHARES)
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


def _color(leaves, size, bank):
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
            patches = _color_some({name: value[some] for name, value in leaves.items()}, left, top, side, size, bank)
            for number, *leaf in zip(some.tolist(), *patches, left.int().tolist(), top.int().tolist(), strict=True):
                colored[number] = leaf
    return colored


def _color_some(leaves, left, top, side, size, bank):
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
    atlas = banks.outlines(bank)
    on_map = [(part / (2 * banks.REACH) + 0.5).clamp_(0, 1) for part in (u, v)]
    inside = banks.look_up(atlas, leaf["outline"], *on_map)[:, 0]
    distance = inside * (leaf["width"] * leaf["height"]).sqrt()

    # The texture, seen at a slant.
    scale = leaf["texture_scale"] / banks.TILE
    cos, sin = leaf["texture_angle"].cos() * scale, leaf["texture_angle"].sin() * scale
    along, across = x * cos + y * sin, y * cos - x * sin
    if leaves["slant"].any():
        slant_x, slant_y = leaves["slant"].T[..., None, None]
        farness = 1 + ((x + leaf["x"]) / size - 0.5) * slant_x + ((y + leaf["y"]) / size - 0.5) * slant_y
        along, across = along / farness, across / farness
    atlas = banks.textures(bank)
    along, across = (part + (leaves["texture_at"][:, i, None, None] + 64) for i, part in enumerate((along, across)))
    light, mix = banks.look_up(atlas, leaf["texture"], along.frac_(), across.frac_()).unbind(1)

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
