"""Wrong input gets an error that names the argument, what was given and what is wanted, before any work is done."""

import copy
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import picture
from torch import nn

from refine_lib import (
    brush_mask,
    build_pyramid,
    downscale,
    erode,
    multiscale_inpaint,
    predict_and_refine,
    random_scenes,
    stroke_masks,
)

IMAGE, MASK = picture(48, 40)

IMAGES = {
    "rank": (IMAGE[0], ValueError, r"image has 3 dimensions, shape \(3, 48, 40\); expected 4 \(shape \(B, 3, H, W\)\)"),
    "channels": (IMAGE[:, :1], ValueError, r"image has 1 channels, .* expected 3 \(shape \(B, 3, H, W\)\)"),
    "array": (IMAGE.numpy(force=True), TypeError, r"image is a ndarray; expected a torch.Tensor of shape \(B, 3, H, W\)"),
    "uint8": ((IMAGE * 255).byte(), TypeError, "image is uint8; expected float32 or float64"),
    "half": (IMAGE.half(), TypeError, "image is float16; expected float32 or float64"),
    "0-255": (IMAGE * 255, ValueError, r"image has values between .* expected values in \[0, 1\]. Divide .*: image / 255"),
    "negative": (IMAGE - 0.5, ValueError, r"image has values between -.* expected values in \[0, 1\]$"),
    "nan": (IMAGE / 0, ValueError, "image has values that are not finite"),
    "small": (IMAGE[..., :15], ValueError, "expected at least one picture of 16 px a side"),
    "empty": (IMAGE[:0], ValueError, "expected at least one picture"),
}
MASKS = {
    "rank": (MASK[0, 0], ValueError, r"mask has 2 dimensions, .* expected 4 \(shape \(B, 1, H, W\)\)"),
    "channels": (MASK.expand(1, 3, 48, 40), ValueError, r"mask has 3 channels, .*; expected 1 \(shape \(B, 1, H, W\)\)"),
    "bool": (MASK.bool(), TypeError, "mask is bool; expected float32 or float64"),
    "dtype": (MASK.float(), TypeError, "mask is float32 and image is float64; expected the same"),
    "size": (MASK[..., :32], ValueError, "mask is 48 x 32 px and image is 48 x 40 px; expected the same height and width"),
    "batch": (MASK.expand(2, 1, 48, 40), ValueError, "mask has a batch of 2 and image one of 1"),
    "gray": (MASK * 0.7, ValueError, r"mask has values between 0 and 0.7; .* mask = \(mask > 0.5\)"),
    "255": (MASK * 255, ValueError, r"mask has values between 0 and 255; .* mask = \(mask > 127\)"),
    "nan": (MASK / 0, ValueError, "mask has values that are not finite"),
}
SETTINGS = {
    "lr zero": ({"lr": 0}, "lr is 0; expected a learning rate above 0"),
    "lr nan": ({"lr": float("nan")}, "lr is nan"),
    "lr text": ({"lr": "fast"}, "lr is 'fast'"),
    "n_iters": ({"n_iters": -1}, "n_iters is -1; expected a whole number of 0 or more"),
    "n_iters half": ({"n_iters": 1.5}, "n_iters is 1.5"),
    "optimizer": ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of 'adam', 'polyak'"),
    "early stop": ({"early_stop": 1}, r"early_stop is 1; expected a share of the loss in \[0, 1\), or None"),
    "erosion": ({"erosion": -3}, "erosion is -3; expected a whole number of 0 or more pixels"),
    "scale": ({"smallest_scale": 8}, "smallest_scale is 8; expected at least 16 pixels"),
    "loss": ({"loss": "l2"}, "loss is 'l2'; expected one of 'paper', 'code'"),
    "callback": ({"callback": 3}, "callback is a int; expected a function of one argument, a Step"),
    "lr huge": ({"lr": 10**400}, r"lr is 1000.*\.\.\..*0000; expected a learning rate above 0"),
    "lr of 5000 digits": ({"lr": 10**5000}, "lr is a number of thousands of digits; expected"),
    "lr complex": ({"lr": 1j}, "lr is 1j; expected a learning rate"),
    "n_iters fraction": ({"n_iters": torch.tensor(1.5)}, r"n_iters is tensor\(1.5000\).*; expected a whole number"),
    "scale huge": ({"smallest_scale": 10**400}, r"smallest_scale is 1000.*; expected at least 16 pixels"),
    "scale nan": ({"smallest_scale": float("nan")}, "smallest_scale is nan; expected at least 16"),
    "optimizer of a kind": ({"optimizer": ["adam"]}, r"optimizer is \['adam'\]; expected one of"),
}


@pytest.fixture
def untouched(tiny, monkeypatch):
    """A network that must not be asked for anything."""
    model = copy.deepcopy(tiny)
    monkeypatch.setattr(model, "front", lambda *args: pytest.fail("the network was run"))
    return model


@pytest.mark.parametrize("case", IMAGES)
def test_image(untouched, case):
    image, error, words = IMAGES[case]
    for call in (
        lambda: multiscale_inpaint(image, MASK, untouched),
        lambda: build_pyramid(image, MASK),
        lambda: predict_and_refine(image, MASK, IMAGE[..., ::2, ::2], untouched),
    ):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("case", MASKS)
def test_mask(untouched, case):
    mask, error, words = MASKS[case]
    for call in (lambda: multiscale_inpaint(IMAGE, mask, untouched), lambda: build_pyramid(IMAGE, mask)):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(untouched, case):
    settings, words = SETTINGS[case]
    with pytest.raises((TypeError, ValueError), match=words):
        multiscale_inpaint(IMAGE, MASK, untouched, **settings)


NUMBERS = {
    "numpy": (np.int64(2), np.uint8(3), np.float32(0.01), np.int32(24)),
    "torch": (torch.tensor(2), torch.tensor(3, dtype=torch.uint8), torch.tensor(0.01), torch.tensor(24.0)),
    "Python": (2, 3, Fraction(1, 100), Decimal(24)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_may_be_of_any_numeric_type(tiny, kind):
    n_iters, erosion, lr, scale = NUMBERS[kind]
    settings = {"n_iters": n_iters, "erosion": erosion, "lr": lr}
    found = multiscale_inpaint(IMAGE, MASK, tiny, smallest_scale=scale, progress=False, **settings)
    plain = multiscale_inpaint(IMAGE, MASK, tiny, smallest_scale=24, n_iters=2, erosion=3, lr=0.01, progress=False)
    assert torch.allclose(found.image, plain.image, atol=1e-6) and found.n_levels == 2
    predict_and_refine(IMAGE, MASK, downscale(IMAGE), tiny, **settings, early_stop=type(lr)(0.5) if kind == "numpy" else None)
    assert torch.equal(erode(MASK, erosion), erode(MASK, 3))
    drawn, holes = random_scenes(n_iters * 16, seed=n_iters), stroke_masks((n_iters * 16, 40), seed=n_iters)
    assert drawn.shape == (1, 3, 32, 32) and holes.shape == (1, 1, 32, 40)
    assert torch.equal(brush_mask("thick", n_iters * 32, seed=erosion), brush_mask("thick", 64, seed=3))


SIZES = {
    "negative": (lambda: stroke_masks(-4), "size is -4; expected a whole number of 1 to 65536 pixels"),
    "three": (lambda: stroke_masks((4, 4, 4)), r"size is \(4, 4, 4\); expected a whole number"),
    "no batch": (lambda: stroke_masks(16, batch=0), "batch is 0; expected a whole number of 1 to 65536 masks"),
    "seed": (lambda: random_scenes(16, seed=2**80), "seed is 1208.*; expected a whole number of 0 to"),
    "long": (
        lambda: brush_mask("thin", (1, 999), 0),
        r"size is \(1, 999\); expected a long side of at most 64 short ones",
    ),
}


@pytest.mark.parametrize("case", SIZES)
def test_a_size_of_what_is_drawn(case):
    draw, words = SIZES[case]
    with pytest.raises(ValueError, match=words):
        draw()


def test_a_picture_that_only_rounding_moved_out_of_its_range_is_taken():
    assert len(build_pyramid(IMAGE.clamp(min=0) * 0 + 1 + 1e-6, MASK, 16)) == 2


def test_a_model_of_another_dtype(untouched):
    with pytest.raises(TypeError, match=r"model is float64 and image is float32; expected the same: model.to\(torch.float32\)"):
        multiscale_inpaint(IMAGE.float(), MASK.float(), untouched)


def test_a_network_that_was_not_split():
    with pytest.raises(TypeError, match=r"model is a Conv2d without .front; expected split_network\(network\)"):
        multiscale_inpaint(IMAGE, MASK, nn.Conv2d(4, 3, 1))


def test_a_network_that_breaks_the_gradient_is_found_before_the_work(tiny):
    broken = copy.deepcopy(tiny)
    broken.layers[-1] = nn.Sequential(broken.layers[-1], Round())
    with pytest.raises(ValueError, match="the network breaks the gradient"):
        multiscale_inpaint(IMAGE, MASK, broken, callback=lambda step: pytest.fail("work was done"))


class Round(nn.Module):
    def forward(self, x):
        return (x.detach() * 255).round() / 255


def test_a_smaller_picture_of_the_wrong_size(tiny):
    with pytest.raises(ValueError, match=r"inpainted_low_res has shape \(1, 3, 20, 20\); expected \(1, 3, 24, 20\)"):
        predict_and_refine(IMAGE, MASK, IMAGE[..., :20, :20], tiny)
    with pytest.raises(TypeError, match="inpainted_low_res is float32 and image is float64"):
        predict_and_refine(IMAGE, MASK, IMAGE[..., ::2, ::2].float(), tiny)


def test_an_erosion_below_zero():
    with pytest.raises(ValueError, match="diameter is -1; expected a whole number of 0 or more pixels"):
        erode(MASK, -1)
    with pytest.raises(ValueError, match="diameter is 7.5"):
        erode(MASK, 7.5)
    with pytest.raises(ValueError, match="mask has values between 0 and 255"):
        erode(MASK * 255, 5)
    with pytest.raises(TypeError, match="mask is bool"):
        erode(MASK.bool(), 5)


def test_a_picture_that_cannot_be_halved():
    with pytest.raises(ValueError, match=r"image has shape \(3, 48, 40\); expected \(B, C, H, W\)"):
        downscale(IMAGE[0])
    with pytest.raises(TypeError, match="image is float8_e5m2; expected a floating .* of 16 bits or more"):
        downscale(IMAGE.to(torch.float8_e5m2))
    with pytest.raises(TypeError, match="image is uint8; expected a floating"):
        downscale(IMAGE.byte())
