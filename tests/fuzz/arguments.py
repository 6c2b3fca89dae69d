"""Random arguments of the functions that people call, and of the command line."""

import contextlib
import io
import math
import shlex
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch
from PIL import Image

import refine_lib
from fuzz.photos import HOLE, PIXELS, network
from refine_lib.__main__ import OPTIONS, main

KINDS = (OSError, TypeError, ValueError, RuntimeError, MemoryError)
IMAGE = torch.from_numpy(PIXELS[..., :3].copy()).permute(2, 0, 1)[None] / 255
MASK = torch.from_numpy(HOLE.copy())[None, None].float() / 255
NUMBERS = [0, 1, 2, 3, -1, 16, 17, 0.5, -0.5, 1e-9, 1e300, 10**30, 10**400, math.nan, math.inf, -math.inf, True, 1j]
NUMBERS += [
    np.int64(2),
    np.uint8(1),
    np.float32(0.5),
    np.float64(2),
    np.bool_(True),
    Fraction(1, 2),
    Fraction(2),
    Decimal("0.25"),
]
NUMBERS += [torch.tensor(2), torch.tensor(0.5), torch.tensor([1, 2]), np.array(3), np.array([1.5, 2])]
THINGS = [
    None,
    "",
    "adam",
    "auto",
    "thick",
    "\0",
    "x" * 5000,
    b"bytes",
    [],
    [1],
    (8, 8),
    (8,),
    {},
    object(),
    len,
    "cuda:7",
    "meta",
]
PICTURES = [IMAGE, IMAGE[0], IMAGE.double(), IMAGE.half(), IMAGE * 255, IMAGE.expand(2, -1, -1, -1), IMAGE[..., :15], IMAGE[:0]]
PICTURES += [
    IMAGE.clone().requires_grad_(),
    IMAGE.flip(-1),
    IMAGE.to(memory_format=torch.channels_last),
    IMAGE.numpy(force=True),
    IMAGE / 0,
]
PICTURES += [
    IMAGE.detach().to_sparse(),
    IMAGE.to(torch.complex64),
    IMAGE.to("meta"),
    IMAGE.detach()[..., :16, :17],
    torch.zeros(0),
]
MASKS = [
    MASK,
    MASK.double(),
    MASK.bool(),
    MASK[0],
    MASK * 255,
    MASK * 0,
    MASK * 0 + 1,
    MASK[..., :16, :17],
    MASK.expand(2, -1, -1, -1),
    None,
    HOLE,
    HOLE > 0,
    HOLE / 255,
    HOLE[:-1] / np.nan,
    HOLE.astype(object),
    HOLE * 1j,
    np.zeros((0, 0)),
]
PATHS = [
    "",
    ".",
    "/proc",
    "/dev/null",
    "/proc/self/mem",
    "nowhere.png",
    "a\0b.png",
    "x" * 300 + ".png",
    "~/a.png",
    7,
    None,
    b"a.png",
]
GOOD = {  # what each argument usually is
    "image": [IMAGE.detach()],
    "mask": [MASK],
    "smallest_scale": [16, 12.5, 24],
    "n_iters": [0, 1, 2],
    "lr": [0.002, 0.1],
    "erosion": [0, 1, 3],
    "loss": ["paper", "code"],
    "optimizer": ["adam", "polyak"],
    "early_stop": [None, 0.5],
    "speed": ["auto", "exact", "mixed"],
    "diameter": [0, 3, 99],
    "size": [16, (16, 24), 33],
    "batch": [1, 2],
    "seed": [0, 7],
    "kind": ["thin", "medium", "thick"],
    "threshold": [0.5],
    "dilation": [0, 2],
    "soft_edge": [0, 1.5],
    "soft_mask": [False],
    "invert": [False, True],
    "windows": ["auto", "always", "never"],
    "context": [0.5, 0],
    "photo": [Image.fromarray(PIXELS)],
    "output": [None],
    "at": [1, 2],
    "hole_value": [None, 0.5],
    "value_range": [None, (-1, 1)],
    "multiple": [None, 4],
    "name_or_path": ["mini-lama"],
    "device": ["cpu", None],
}
SETTINGS = ("smallest_scale", "n_iters", "lr", "erosion", "loss", "optimizer", "early_stop", "speed")
CALLS = {
    "multiscale_inpaint": ("image", "mask", *SETTINGS),
    "build_pyramid": ("image", "mask", "smallest_scale"),
    "downscale": ("image",),
    "erode": ("mask", "diameter"),
    "stroke_masks": ("size", "batch", "seed", "kind"),
    "brush_mask": ("kind", "size", "seed"),
    "random_scenes": ("size", "batch", "seed"),
    "load_network": ("name_or_path", "device"),
    "split_network": ("at", "hole_value", "value_range", "multiple"),
    "inpaint_photo": (
        "photo",
        "mask",
        "output",
        "threshold",
        "dilation",
        "soft_edge",
        "soft_mask",
        "invert",
        "windows",
        "context",
        "n_iters",
    ),
}


def cases(rng):
    """Yields (name, (function, arguments)), or (name, words of the command line)."""
    n = 0
    while True:
        n += 1
        if rng.random() < 0.3:
            yield f"line{n}", _words(rng)
            continue
        call = rng.choice(list(CALLS))
        arguments = {name: rng.choice(GOOD[name]) for name in CALLS[call]}
        for name in rng.sample(CALLS[call], min(len(CALLS[call]), rng.choice([0, 1, 1, 1, 2, 3]))):
            special = {"image": PICTURES, "mask": MASKS, "output": PATHS, "name_or_path": PATHS, "photo": PATHS}.get(
                name, NUMBERS
            )
            some = special if rng.random() < 0.7 else [*NUMBERS, *THINGS]
            # So many iterations would be computed.
            arguments[name] = rng.choice([value for value in some if name != "n_iters" or type(value) is not int or value < 9])
        yield f"call{n}", (call, arguments)


def _words(rng):
    """Words after ``python -m refine_lib``."""
    odd = [
        "0",
        "1",
        "-1",
        "3",
        "nan",
        "inf",
        "-inf",
        "1e300",
        "9" * 30,
        "9" * 400,
        "",
        "adam",
        "auto",
        "a b",
        "--",
        "\u7167",
        "-o",
    ]
    paths = [
        "photo.png",
        "mask.png",
        "photos",
        "masks",
        "nowhere",
        ".",
        "/proc",
        "/dev/null",
        "filled.png",
        "out",
        "a/b.png",
        "x" * 300 + ".png",
    ]
    words = ["photo.png", "mask.png", "-o", "filled.png", "--network", "mini-lama", "--n-iters", "0", "--device", "cpu"]
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        words[rng.choice([0, 1, 3])] = rng.choice(paths)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        name = rng.choice([name for options in OPTIONS.values() for name, *_ in options])
        words += [f"--{name.replace('_', '-')}", rng.choice([word for word in odd if name != "n_iters" or word[0:1] != "9"])]
    words += rng.choice([[], [], ["--report", rng.choice([*paths, "r.csv", "a/r.csv", ".csv", "out/r.csv"])]])
    return words + rng.choice(
        [[], [], ["--soft-mask"], ["--invert"], ["--overwrite"], ["--quiet"], ["--network", "nowhere"], ["--help"]]
    )


def try_case(case, folder):
    """Raises AssertionError unless a result comes, or an error of a known kind that names an argument."""
    return _try_line(case, folder) if isinstance(case, list) else _try_call(*case, folder)


def _try_call(call, arguments, folder):
    arguments = dict(arguments)
    if call == "split_network":
        arguments["network"] = network().layers
    elif call == "inpaint_photo":
        arguments |= {"network": network(), "smallest_scale": 16, "progress": False}
        arguments["mask"] = Image.fromarray(HOLE) if arguments["mask"] is MASK else arguments["mask"]
    elif call == "multiscale_inpaint":
        arguments |= {"model": network(), "progress": False}
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.chdir(folder):
            getattr(refine_lib, call)(**arguments)
    except KINDS as error:
        words = str(error)
        named = (*CALLS[call], "network", "path", str(arguments.get("name_or_path")))
        assert any(name in words for name in named), f"a nameless {error!r}"
        assert "\n  File" not in words and "Exception raised from" not in words, f"not in words: {error!r}"
        return f"refused: {type(error).__name__}"
    return "done"


def _try_line(words, folder):
    for name, pixels in {"photo": PIXELS[..., :3], "mask": HOLE, "photos/a": PIXELS[..., :3], "masks/a": HOLE}.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(action="ignore"), contextlib.chdir(folder), contextlib.redirect_stdout(out):
        with contextlib.redirect_stderr(err):
            try:
                code = main(words)
            except SystemExit as error:
                code = error.code
    assert code in (0, 1, 2), f"exit code {code} of {shlex.join(words)}"
    assert code == 0 or err.getvalue().strip(), f"nothing is said of {shlex.join(words)}"
    assert "Traceback" not in err.getvalue(), err.getvalue()
    given = [folder / word for word in words[:2] if len(word) < 200]
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    touched = [path for path in changed if any(one in (path, path.parent) for one in given)]
    assert not touched, f"{shlex.join(words)} changed an input, {touched[0].name}"
    return f"exit code {code}"
