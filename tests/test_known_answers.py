"""The algorithm and the network against answers that the authors' own code gave, in float64."""

import json

import numpy as np
import pytest
import torch
from conftest import TESTS, known_answer
from formula import fill_by_formula

from refine_lib import LamaGenerator, build_pyramid, erode, multiscale_inpaint, predict_and_refine, split_network
from refine_lib.masks import paste
from refine_lib.networks.aotgan import AOTGenerator
from refine_lib.pyramid import whole_hole

CASES = ["square_three_levels", "odd_size", "thin_mask_erodes_to_nothing", "one_level_only", "one_step_large_rate"]
NETWORKS = {"tiny": dict(ngf=8, n_blocks=2), "lama-fourier": dict(n_blocks=9), "big-lama": {}}
TOLERANCE = 1e-6


def difference(tensor, array):
    return np.abs(tensor.detach().numpy() - array).max()


@pytest.mark.parametrize("name", CASES)
def test_the_pyramid_and_the_eroded_masks(name):
    known = known_answer(name)
    meta = known["meta"]
    pyramid = build_pyramid(known["image"], known["mask"], meta["smallest_scale"])
    assert len(pyramid) == meta["levels"]
    for i, level in enumerate(pyramid):
        assert difference(level.image[0], known[f"pyramid_image_{i}"]) < TOLERANCE
        assert np.array_equal(level.mask[0, 0], known[f"pyramid_mask_{i}"])
    for i in range(len(pyramid) - 1):
        eroded = erode(whole_hole(pyramid[i + 1].mask, pyramid[i].size), meta["erosion"])
        assert np.array_equal(eroded[0, 0], known[f"eroded_mask_{i}"])


@pytest.mark.parametrize("loss", ["paper", "code"])
@pytest.mark.parametrize("name", CASES)
def test_every_loss_and_the_results(name, loss):
    known = known_answer(name)
    meta = known["meta"]
    model = split_network(fill_by_formula(LamaGenerator(**meta["network"])))
    settings = {key: meta[key] for key in ("smallest_scale", "n_iters", "lr", "erosion")}
    result = multiscale_inpaint(known["image"], known["mask"], model, loss=loss, **settings)
    assert difference(result.image[0], known[f"output_{loss}"]) < TOLERANCE
    assert difference(result.plain[0], known["plain"]) < TOLERANCE
    assert len(result.losses) == meta["levels"] - 1
    for losses, wanted in zip(result.losses, known[f"losses_{loss}"], strict=True):
        if np.isnan(wanted).all():
            assert losses == []
        else:
            assert np.abs(np.array(losses) - wanted).max() < TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_as_close_as_the_authors_code_does(name):
    known = known_answer(name)
    meta = known["meta"]
    model = split_network(fill_by_formula(LamaGenerator(**meta["network"])).float())
    settings = {key: meta[key] for key in ("smallest_scale", "n_iters", "lr", "erosion")}
    allowed = 10 * meta["float32_max_difference"]["paper"] + 2e-6
    for speed, more in (("exact", 1), ("auto", 10)):
        result = multiscale_inpaint(known["image"].float(), known["mask"].float(), model, **settings, speed=speed)
        assert difference(result.image[0], known["output_paper"]) < more * allowed


def test_one_level_by_hand_is_what_the_loop_does():
    known = known_answer("one_step_large_rate")
    meta = known["meta"]
    model = split_network(fill_by_formula(LamaGenerator(**meta["network"])))
    small, large = build_pyramid(known["image"], known["mask"], meta["smallest_scale"])
    low_res = torch.where(small.mask > 0, model(small.image, small.mask), small.image)
    refined = predict_and_refine(
        large.image, large.mask, low_res, model, lr=meta["lr"], n_iters=meta["n_iters"], erosion=meta["erosion"]
    )
    assert difference(refined[0], known["output_paper"]) < TOLERANCE


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_and_shape_of_the_generators(name):
    wanted = json.loads((TESTS / "known_answers" / "lama_keys.json").read_text())[name]
    with torch.device("meta"):
        state = LamaGenerator(**NETWORKS[name]).state_dict()
    assert [(key, list(value.shape)) for key, value in state.items()] == list(wanted.items())


@pytest.mark.parametrize("name", ["lama-fourier", "big-lama"])
def test_the_full_width_forward_pass(name):
    known = known_answer(name.replace("-", "_") + "_forward")
    model = split_network(fill_by_formula(LamaGenerator(**NETWORKS[name])))
    z = model.front(known["image"], known["mask"])
    for featuremap, part in zip(z, ("local", "global"), strict=True):
        assert difference(featuremap[0, :4, :4, :4], known[f"{part}_corner"]) < TOLERANCE
        statistics = [featuremap.mean().item(), featuremap.std().item()]
        assert np.allclose(statistics, known[f"{part}_mean_std"], rtol=1e-3)  # with or without Bessel's correction
    with torch.no_grad():
        x = tuple(z)
        for layer in model.layers[model.at : -1]:
            x = layer(x)
        prediction = model.layers[-1](x)
    before = known["before_sigmoid"]
    assert difference(x[0], before) < TOLERANCE * np.abs(before).max()
    assert difference(prediction[0], known["prediction"]) < TOLERANCE


def test_every_name_and_shape_of_aot_gan():
    wanted = json.loads((TESTS / "known_answers" / "aotgan_keys.json").read_text())
    with torch.device("meta"):
        state = AOTGenerator().state_dict()
    assert [(key, list(value.shape)) for key, value in state.items()] == list(wanted.items())


def test_the_full_width_forward_pass_of_aot_gan():
    known = known_answer("aotgan_forward")
    model = split_network(fill_by_formula(AOTGenerator()))
    (z,) = model.front(known["image"], known["mask"])
    assert difference(z[0, :8, :4, :4], known["featuremap_corner"]) < TOLERANCE
    assert np.allclose([z.mean().item(), z.std().item()], known["featuremap_mean_std"], rtol=1e-3)
    with torch.no_grad():
        prediction = model(known["image"], known["mask"])
    assert difference(prediction[0], known["prediction"]) < TOLERANCE
    assert difference(paste(prediction, known["image"], known["mask"])[0], known["composited"]) < TOLERANCE
