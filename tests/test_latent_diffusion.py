"""Latent diffusion: its conventions and its places in the library on a tiny one, the whole one against its authors' answers."""

import copy
import json
import time

import numpy as np
import pytest
import torch
from conftest import TESTS, known_answer, picture
from formula_hash import numbers, picture_by_formula, state_by_hash
from PIL import Image
from safetensors.torch import save_file
from test_mat import summary

from refine_lib import load_network, multiscale_inpaint, split_network
from refine_lib.__main__ import main
from refine_lib.evaluate.methods import Case, Plain, parse_method
from refine_lib.evaluate.pictures import Picture
from refine_lib.evaluate.texts import PAPER, published_rows
from refine_lib.fast.memory import bytes_per_pixel
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.networks import latent_diffusion_layers as layers
from refine_lib.networks.latent_diffusion import SHARES, LatentDiffusion
from refine_lib.networks.registry import WEIGHTS, generator_of, save_generator
from refine_lib.photos import plain
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.plain import plain_inpaint

KEYS = json.loads((TESTS / "known_answers" / "ldm_keys.json").read_text())
TINY = {"n": 32, "n_first": 32, "n_codes": 16, "n_steps": 4}
REFUSED = "LatentDiffusion cannot be refined: the paper refines a featuremap between the front and the rear of one pass"


@pytest.fixture(scope="module")
def ldm():
    torch.manual_seed(1)
    network = LatentDiffusion(**TINY).eval().requires_grad_(False)
    network.first_stage_model.quantize["embedding"].weight.mul_(3)
    return network


def scene(height=32, width=64, batch=1):
    return picture(height, width, batch, dtype=torch.float32)


def test_what_the_hole_holds_is_not_seen_and_the_picture_is_whole(ldm):
    image, mask = scene()
    out = ldm(image, mask)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1 and out.std() > 0.01
    for other in (torch.rand(image.shape), torch.full_like(image, torch.nan)):
        assert torch.equal(ldm(torch.where(mask > 0, other, image), mask), out)
    assert not torch.equal(ldm(1 - image, mask), out) and not torch.equal(ldm(image, 1 - mask), out)


def test_a_batch_is_its_pictures(ldm):
    image, mask = scene(batch=2)
    mask[1, :, 20:] = 1
    apart = torch.cat([ldm(image[i : i + 1], mask[i : i + 1]) for i in range(2)])
    assert torch.allclose(ldm(image, mask), apart, atol=1e-4)


def test_two_runs_agree_and_seeds_and_steps_do_not(ldm):
    image, mask = scene()
    out = ldm(image, mask)
    assert torch.equal(ldm(image, mask), out) and torch.equal(ldm(image, mask, n_steps=4, seed=0), out)
    torch.manual_seed(5)
    assert torch.equal(ldm(image, mask), out)
    assert not torch.equal(ldm(image, mask, seed=1), out) and not torch.equal(ldm(image, mask, n_steps=5), out)
    noise = torch.zeros(1, 3, 8, 16)
    assert torch.equal(ldm(image, mask, noise=noise, seed=1), ldm(image, mask, noise=noise))


WRONG = {
    "no divisor": ({"n_steps": 30}, "n_steps is 30; expected a divisor of 1000, as 10, 20, 25 or 50"),
    "one time too many": ({"n_steps": 1000}, "n_steps is 1000; expected a whole number of 1 to 500 passes"),
    "none": ({"n_steps": 0}, "n_steps is 0; expected a whole number"),
    "part": ({"n_steps": 2.5}, "n_steps is 2.5; expected a whole number"),
    "seed": ({"seed": -1}, "seed is -1; expected a whole number"),
    "noise": ({"noise": torch.zeros(1, 3, 8, 8)}, r"noise has shape \(1, 3, 8, 8\); expected \(1, 3, 8, 16\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(ldm, case):
    given, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        ldm(*scene(), **given)
    if "noise" not in given:
        with pytest.raises(ValueError, match=words):
            ldm.sample_with(**given)
        with pytest.raises(ValueError, match=words):
            LatentDiffusion(**TINY | given)
    assert (ldm.n_steps, ldm.seed) == (4, 0)


@pytest.mark.parametrize("wrong", [{"n": 48}, {"n": 0}, {"n_first": 31}, {"n_codes": 0}, {"heads": 5}], ids=str)
def test_wrong_widths_are_named(wrong):
    with pytest.raises(ValueError, match=r"n is .*, n_first .*; expected multiples of 32, at least 1, and a divisor of n"):
        LatentDiffusion(**TINY | wrong)


def test_the_nearest_code_is_taken_and_of_equals_the_first():
    network = layers.Autoencoder(32, 4).requires_grad_(False)
    table = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 2, 0]])
    network.quantize["embedding"].weight.copy_(table)
    latent = torch.tensor([[0.1, 0.9, 0.0], [0.0, 1.1, 1.8], [0.0, 0.9, 0.0]])[None, :, None]  # pixels stand in columns
    assert network.codes(latent)[0, 0].tolist() == [0, 1, 3]
    many = torch.randn(1, 3, 50, 50)
    assert torch.equal(network.codes(many).flatten(), torch.cdist(many.flatten(2)[0].T, table).argmin(dim=1))


def test_norms_and_softmax_are_in_float32_in_half_the_bits():
    norm, x = layers.Norm(32, 1e-5), 1000 + torch.randn(1, 32, 8, 8)
    exact = norm(x.half().float())
    assert (norm.half()(x.half()).float() - exact).abs().max() < 2e-3  # rounded once
    attention = layers.Attention(32, 4).requires_grad_(False)
    x = torch.randn(1, 32, 8, 8)
    wanted = attention(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (attention(x) - wanted).abs().max() < 0.02


def test_attention_holds_no_square_of_its_pixels(ldm):
    """Of 64 x 64 pixels the square for four heads would take 268 MB."""
    from refine_lib.fast.memory import Tensors

    with Tensors() as tensors, torch.no_grad():
        layers.Attention(32, 4)(torch.randn(1, 32, 64, 64))
    assert tensors.peak < 2e7


def test_each_pass_is_a_step_and_the_callback_sees_its_picture(ldm):
    image, mask = scene()
    steps, pictures = [], []

    def keep(step):
        steps.append(step)
        pictures.append(step.picture())

    result = plain_inpaint(image, mask, ldm, keep, progress=False)
    assert [(s.iteration, s.n_iters, s.in_short) for s in steps] == [(i, 4, f"pass {i}/4") for i in range(1, 5)]
    assert torch.equal(result.image, torch.where(mask > 0, ldm(image, mask), image)) and torch.equal(pictures[-1], result.image)
    known = (mask == 0).expand_as(image)
    assert len({p.sum().item() for p in pictures}) > 1 and all(torch.equal(p[known], image[known]) for p in pictures)
    assert "s a pass" in steps[1].message and "minutes in all" in steps[1].message and not result.stopped and not result.message
    assert "4 passes from the noise of seed 0" in result.note and "maybe not averaged" in result.note and result.n_levels == 1


class Pressed:
    """A callback that stops a run at its third pass, as the keyboard does or as a callback may."""

    def __init__(self, by_key):
        self.by_key, self.pictures = by_key, []

    def __call__(self, step):
        self.pictures.append(step.picture())
        if step.iteration == 3 and self.by_key:
            raise KeyboardInterrupt
        return step.iteration < 3


@pytest.mark.parametrize("by_key", [False, True])
def test_a_stopped_run_gives_the_picture_that_it_had(ldm, by_key, tmp_path):
    image, mask = scene()
    stop = Pressed(by_key)
    result = plain_inpaint(image, mask, ldm, stop, progress=False)
    assert result.stopped and len(result.steps) == 3 and torch.equal(result.image, stop.pictures[2]) and not result.levels
    assert result.message == "Stopped after 3 of 4 passes: the picture is what the last took for the end."
    photo, hole = Image.new("RGB", (96, 64), "teal"), Image.new("L", (96, 64))
    hole.paste(255, (40, 20, 60, 40))
    done = inpaint_photo(photo, hole, tmp_path / "out.png", ldm, callback=Pressed(by_key), progress=False)
    assert done.stopped and done.path == tmp_path / "out.stopped.png" and "Stopped after 3 of 4 passes" in done.message


def test_a_key_within_a_pass_or_before_one_is_done(ldm, monkeypatch):
    image, mask = scene()
    unet, calls = ldm.model["diffusion_model"], []

    def interrupted(module, args):
        calls.append(1)
        if len(calls) == n:
            raise KeyboardInterrupt

    hook = unet.middle_block.register_forward_pre_hook(interrupted)
    try:
        n = 3
        result = plain_inpaint(image, mask, ldm, progress=False)
        assert result.stopped and len(result.steps) == 2 and result.image.isfinite().all()
        calls.clear()
        n = 1
        with pytest.raises(KeyboardInterrupt):
            plain_inpaint(image, mask, ldm, progress=False)
        calls.clear()
        n = 2
        with pytest.raises(KeyboardInterrupt):  # a row of an evaluation is no result then
            ldm(image, mask)
    finally:
        hook.remove()


def test_padding_and_short_memory_are_said(ldm, monkeypatch):
    image, mask = scene(70, 49)
    result = plain_inpaint(image, mask, ldm, progress=False)
    assert result.image.shape == image.shape and "Sides are padded to multiples of 32 px." in result.note
    monkeypatch.setattr(plain, "available_memory", lambda device: 10**6)
    with pytest.warns(ShortOfMemory, match="The picture of 70 x 49 px needs about .* and 1 MB are there"):
        assert "and 1 MB are there" in plain_inpaint(image, mask, ldm, progress=False).note
    with pytest.raises(ValueError, match="image is 16 x 16 px, too small to be padded"):
        plain_inpaint(*scene(16, 16), ldm, progress=False)


def test_no_hole_and_weights_that_are_not_whole(ldm, tmp_path):
    image, mask = scene()
    result = plain_inpaint(image, 0 * mask, ldm, progress=False)
    assert torch.equal(result.image, image) and "The mask has no hole" in result.message and not result.steps
    state = dict(ldm.state_dict())
    state["model.diffusion_model.out.2.bias"] = torch.full((3,), torch.nan)
    save_file(state, tmp_path / "l.safetensors")
    with pytest.raises(ValueError, match="weights are not all finite"):
        load_network(tmp_path / "l.safetensors", device="cpu")


def test_numbers_that_are_not_finite_are_not_hidden_by_the_codes(ldm):
    broken = copy.deepcopy(ldm)
    broken.model["diffusion_model"].out[2].bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="what the network makes of noise is not finite; are its weights whole"):
        plain_inpaint(*scene(32, 32), broken, progress=False)


def test_memory_is_what_the_decoder_takes():
    with torch.device("meta"):
        whole, small = LatentDiffusion(), LatentDiffusion(**TINY)
    assert 2300 < bytes_per_pixel(whole, None) < 3200 and bytes_per_pixel(small, None) < 1000


def test_it_is_refused_in_words_where_a_split_network_is_wanted(ldm):
    with pytest.raises(ValueError, match=REFUSED):
        split_network(ldm)
    with pytest.raises(ValueError, match=REFUSED):
        multiscale_inpaint(*scene(), ldm, smallest_scale=32, progress=False)
    with pytest.raises(ValueError, match=f"method is 'refined:latent-diffusion:n_iters=3': {REFUSED}"):
        parse_method("refined:latent-diffusion:n_iters=3")
    with pytest.raises(ValueError, match=f"a guide is refined. {REFUSED}"):
        photo = Image.new("RGB", (64, 64))
        inpaint_photo(photo, np.eye(64), None, ldm, guide=photo, progress=False)


# --- weights


def lacking(state, *starts):
    return {name: t for name, t in state.items() if not name.startswith(starts)}


def as_published(state, tmp_path):
    """The three files, each traced with a prefix of its own, as the names of one file."""
    unet = {
        f"diffusion.model.{n.removeprefix('model.diffusion_model.')}": t for n, t in state.items() if n.startswith("model.")
    }
    first = {n.removeprefix("first_stage_model."): t for n, t in state.items() if n.startswith("first_stage_model.")}
    return unet | {
        f"{file}.{n}": t for file in ("cond_stage_model_encode", "cond_stage_model_decode") for n, t in first.items()
    }


def as_checkpoint(state, tmp_path):
    """The authors' file: raw weights, averaged ones without dots, the autoencoder twice, and more."""
    raw = {n: t + 1 if n.startswith("model.") else t for n, t in state.items()}
    averaged = {f"model_ema.{n.removeprefix('model.').replace('.', '')}": t for n, t in state.items() if n.startswith("model.")}
    twice = {
        n.replace("first_stage_model", "cond_stage_model"): t for n, t in state.items() if n.startswith("first_stage_model")
    }
    more = {
        "model_ema.decay": torch.tensor(0.9),
        "betas": torch.zeros(1000),
        "first_stage_model.loss.discriminator.main": torch.ones(3),
    }
    return raw | averaged | twice | more


FORMS = {
    "its own": (lambda state, _: dict(state), "maybe not averaged"),
    "three files": (as_published, "maybe not averaged"),
    "three files with no names before": (
        lambda state, _: {
            n.removeprefix("first_stage_model.").removeprefix("model.diffusion_model."): t for n, t in state.items()
        },
        "maybe not averaged",
    ),
    "checkpoint": (as_checkpoint, "the averaged ones"),
}


@pytest.mark.parametrize("form", FORMS)
def test_published_names_load_as_they_are(ldm, form, tmp_path):
    change, words = FORMS[form]
    state = change(ldm.state_dict(), tmp_path)
    if form == "checkpoint":
        torch.save({"state_dict": state, "global_step": 3}, tmp_path / "last.ckpt")
        network = load_network(tmp_path / "last.ckpt", device="cpu")
    else:
        save_file({n: t.clone() for n, t in state.items()}, tmp_path / "l.safetensors")
        network = load_network(tmp_path / "l.safetensors", device="cpu")
    assert isinstance(network, LatentDiffusion) and words in network.note and network.n_steps == 50
    image, mask = scene(32, 32)
    assert torch.equal(network(image, mask, n_steps=2), ldm(image, mask, n_steps=2))
    assert not any(p.requires_grad for p in network.parameters())


def test_what_is_missing_is_named(ldm):
    state = ldm.state_dict()
    with pytest.raises(ValueError, match="it lacks model.diffusion_model.out.2.bias"):
        generator_of(lacking(state, "model.diffusion_model.out.2.bias"))
    for start in ("first_stage_model.encoder", "first_stage_model.quantize", "first_stage_model.decoder"):
        with pytest.raises(ValueError, match="it has no first_stage_model|lacks first_stage_model|n_codes 0"):
            generator_of(lacking(state, start))
    for codes in (torch.tensor(3.0), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="n_codes 0"):
            generator_of({**state, "first_stage_model.quantize.embedding.weight": codes})
    averaged = {n: t for n, t in as_checkpoint(state, None).items() if n != "model_ema.diffusion_modelout2bias"}
    with pytest.raises(ValueError, match="it lacks model.diffusion_model.out.2.bias"):
        generator_of(averaged)


def test_the_published_one_is_known_by_its_name(ldm, tmp_path, monkeypatch):
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))
    save_generator(ldm, tmp_path / "latent-diffusion.safetensors")
    assert isinstance(load_network("latent-diffusion", device="cpu"), LatentDiffusion)
    sources = [source for [source] in WEIGHTS["latent-diffusion"].files]
    assert [source.name for source in sources] == [
        f"{part}.{part}.pt" for part in ("cond_stage_model_encode", "cond_stage_model_decode", "diffusion")
    ] and all(len(source.md5) == 32 for source in sources)


# --- photos


@pytest.fixture
def cached(ldm, tmp_path, monkeypatch):
    """load_network("latent-diffusion") gives the tiny one."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path / "cache"))
    save_generator(ldm, tmp_path / "cache" / "latent-diffusion.safetensors")


def photo_and_hole(width=160, height=128):
    pixels = picture_by_formula(height, width)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    hole = np.zeros((height, width), bool)
    hole[50:80, 60:100] = True
    return pixels, hole


@pytest.mark.parametrize("windows", ["never", "always"])
def test_a_photo_is_filled_in_its_hole_alone(ldm, windows):
    pixels, hole = photo_and_hole(400, 160)
    done = inpaint_photo(Image.fromarray(pixels), hole, None, ldm, windows=windows, smallest_scale=32, progress=False)
    filled = np.asarray(done.image)
    assert np.array_equal(filled[~hole], pixels[~hole]) and (filled[hole] != pixels[hole]).any()
    assert len(done.results[0].steps) == 4 and "4 passes" in done.message and not done.stopped
    assert (done.windows == [(0, 160, 0, 400)]) == (windows == "never")
    if windows == "never":
        image = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
        wanted = ldm(image, torch.from_numpy(hole)[None, None].float())[0].permute(1, 2, 0).numpy()
        assert np.abs(filled[hole] / 255 - wanted[hole]).max() < 0.003


def test_a_network_is_a_guide(ldm, cached, tiny_single):
    pixels, hole = photo_and_hole()
    photo, settings = Image.fromarray(pixels), {"smallest_scale": 32, "n_iters": 2, "erosion": 3, "progress": False}
    settings["windows"] = "never"
    seen = []
    done = inpaint_photo(photo, hole, None, tiny_single, guide=ldm, callback=seen.append, **settings)
    assert [s.in_short for s in seen[:4]] == [f"pass {i}/4" for i in range(1, 5)] and seen[4].message == "guide"
    assert done.message.startswith("The guide: A plain picture, in 4 passes") and done.results[0].n_levels == 3
    level = done.results[0].levels[0]
    small = plain_inpaint(level.image, level.mask, ldm, progress=False).image
    assert (level.inpainted - small).abs().max() < 0.01  # of 8 bits
    load_by_name = inpaint_photo(photo, hole, None, tiny_single, guide="latent-diffusion", **settings)
    assert "in 50 passes" in load_by_name.message
    split = inpaint_photo(photo, hole, None, tiny_single, guide=tiny_single, **settings)  # any network may be one
    usual = inpaint_photo(photo, hole, None, tiny_single, **settings)
    assert np.abs(np.asarray(split.image).astype(int) - np.asarray(usual.image)).mean() < 1
    assert not np.array_equal(np.asarray(done.image), np.asarray(usual.image))
    stopped = inpaint_photo(photo, hole, None, tiny_single, guide=ldm, callback=lambda step: False, **settings)
    assert stopped.stopped and not stopped.results and np.array_equal(np.asarray(stopped.image), pixels)
    assert "Stopped after 1 of 4 passes" in stopped.message


def test_the_command_line(cached, tmp_path, capsys):
    pixels, hole = photo_and_hole()
    Image.fromarray(pixels).save(tmp_path / "p.png")
    Image.fromarray(hole).save(tmp_path / "m.png")
    line = [str(tmp_path / "p.png"), str(tmp_path / "m.png"), "--device", "cpu", "-o"]
    few = ["--n-steps", "2"]
    assert main([*line, str(tmp_path / "0.png"), "--network", "latent-diffusion", *few]) == 0
    assert "2 passes from the noise of seed 0" in capsys.readouterr().out
    assert main([*line, str(tmp_path / "1.png"), "--network", "latent-diffusion", *few, "--seed", "3"]) == 0
    assert "noise of seed 3" in capsys.readouterr().out
    guided = ["--network", "mini-lama", "--guide", "latent-diffusion", "--smallest-scale", "32", *few]
    assert main([*line, str(tmp_path / "2.png"), *guided]) == 0
    assert "The guide: A plain picture, in 2 passes" in capsys.readouterr().out
    found = [np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(3)]
    assert all(np.array_equal(one[~hole], pixels[~hole]) for one in found) and len({one.sum() for one in found}) == 3
    for more, words in (
        (["--n-steps", "7", "--network", "latent-diffusion"], "n_steps is 7; expected a divisor of 1000"),
        (["--n-steps", "5", "--network", "mini-lama"], "--n-steps or --seed is given; expected latent-diffusion with it"),
        (["--guide", "latent-difusion", "--network", "mini-lama"], "or the name of a network"),
    ):
        with pytest.raises(SystemExit):
            main([*line, str(tmp_path / "3.png"), *more])
        assert words in " ".join(capsys.readouterr().err.split())
    assert main([*line, str(tmp_path / "3.png"), "--network", "latent-diffusion", "--guide", str(tmp_path / "p.png")]) == 1
    assert REFUSED in capsys.readouterr().err and not (tmp_path / "3.png").exists()


# --- Table 1


def test_it_is_a_method_of_table_1(ldm, cached):
    image, mask = scene(64, 64)
    case = Case(Picture("one", None), "thin", image * (1 - mask), mask)
    few, default = parse_method("plain:latent-diffusion:n_steps=2:seed=1"), parse_method("plain:latent-diffusion")
    few.ready("cpu")
    filled, note = few.fill(case, "cpu")
    assert torch.equal(filled, torch.where(mask > 0, ldm(case.image, mask, n_steps=2, seed=1), case.image))
    assert "maybe not averaged" in note and default.name == "plain:latent-diffusion"
    assert Plain("plain:mine", ldm).fill(case)[0].shape == image.shape
    enlarged = parse_method("enlarged:latent-diffusion:n_steps=2:smallest_scale=32").fill(case, "cpu")[0]
    assert enlarged.shape == image.shape and enlarged.isfinite().all()
    for words, told in (("n_steps=7", "n_steps is 7"), ("n_iters=3", "expected n_steps, seed"), ("seed=-1", "seed is -1")):
        with pytest.raises(ValueError, match=told):
            parse_method(f"plain:latent-diffusion:{words}")
    with pytest.raises(ValueError, match="expected no setting"):
        parse_method("plain:big-lama:n_steps=10")


def test_a_file_of_it_is_refused_as_refined_before_any_work(cached, tmp_path):
    method = parse_method(f"refined:{tmp_path}/cache/latent-diffusion.safetensors")
    with pytest.raises(ValueError, match=REFUSED):
        method.ready("cpu")


def test_the_papers_seven_rows_stand_beside_what_is_found():
    class Table:
        kinds = ["thin", "medium", "thick"]
        methods = [f"plain:{n}" for n in ("aot-gan", "latent-diffusion:n_steps=10", "mat", "zits", "lama-fourier")]
        methods += ["plain:big-lama", "refined:big-lama", "refined:big-lama:n_iters=5", "enlarged:mat", "biharmonic"]

    rows = {name: row for name, *row in published_rows(Table())}
    assert list(rows) == [f"the paper's {name}" for name in PAPER] and len(rows) == 7
    assert rows["the paper's LatentDiffusion"] == ["18.505", "0.141", "31.445", "0.149", "38.743", "0.172", "31.56"]


# --- the whole network


def scale(name, s):
    """The size of an entry of the known answers."""
    if name.endswith("embedding.weight"):
        return 1.5 * s
    if s.ndim < 2:
        return 0.1 * s if name.endswith("bias") else 1 + 0.2 * s
    less = 0.5 if name.endswith(("proj_out.weight", "out_layers.3.weight", "conv2.weight")) else 1
    return less * (3 * len(s) / s.size) ** 0.5 * s


def filled(module, prefix, dtype):
    """A part of the whole network with the weights of the known answers."""
    state = state_by_hash(KEYS, scale, starts=prefix)
    module.load_state_dict({name.removeprefix(prefix): t.to(dtype) for name, t in state.items()}, assign=True)
    return module.eval().requires_grad_(False)


def test_the_whole_network_has_the_authors_entries():
    with torch.device("meta"):
        state = LatentDiffusion().state_dict()
    assert len(KEYS) == 601 and {name: list(t.shape) for name, t in state.items()} == KEYS


def test_shares_are_the_authors():
    known = known_answer("ldm_trajectory")
    assert np.abs(SHARES[known["meta"]["alphas_cumprod_at"]] - known["alphas_cumprod"]).max() < 1e-12


def stages_of(module, known, prefix):
    """Summaries of the outputs of a module's parts, by the answers' names, as the parts run."""
    found, parts = {}, dict(module.named_modules())
    for name in known:
        if (part := name.removeprefix(f"stage/{prefix}.")) in parts:
            parts[part].register_forward_hook(lambda *args, name=name: found.update({name: summary(args[2])}))
    return found


def check_stages(found, known, n):
    assert len(found) == n
    for name, value in found.items():
        assert np.abs(value - known[name]).max() < 1e-6 * np.abs(known[name]).max(), name


def check_picture(found, known, name, bound):
    row, column, size = known["meta"]["patch"][name]
    patch = found[:, row : row + size, column : column + size]
    step = known["meta"]["sparse"][name]
    for part, kind in ((found[:, ::step, ::step], "sparse"), (patch, "patch")):
        assert np.abs(part.numpy() - known[f"{name}_{kind}"]).max() < bound


def but_close(codes, close):
    """Codes without those at places where two are nearly as near."""
    codes = codes.copy()
    codes[tuple(close.T)] = -1
    return codes


@pytest.mark.known_answers
@torch.no_grad()
def test_the_autoencoder_is_the_authors():
    with torch.device("meta"):
        network = layers.Autoencoder(128, 8192)
    filled(network, "first_stage_model.", torch.float64)
    known, decoded = known_answer("ldm_encoder"), known_answer("ldm_decoder")
    stages = stages_of(network.encoder, known, "enc"), stages_of(network.decoder, decoded, "dec")
    latent = network.encode(torch.where(known["mask"] > 0, -1, 2 * known["image"] - 1))
    assert np.abs(latent[0].numpy() - known["latent"]).max() < 1e-6
    check_stages(stages[0], known, 8)
    codes = network.codes(torch.from_numpy(known["latent"])[None].double())[0].numpy()
    assert np.array_equal(*(but_close(some, decoded["close_codes"]) for some in (codes, decoded["codes"])))
    nearest = network.quantize["embedding"](torch.from_numpy(decoded["codes"]).long()[None]).permute(0, 3, 1, 2)
    check_picture(network.decoded(nearest)[0], decoded, "decoded", 1e-6)
    check_stages(stages[1], decoded, 7)


@pytest.mark.known_answers
@torch.no_grad()
def test_the_noise_is_the_authors():
    with torch.device("meta"):
        network = layers.UNet(256, 8)
    filled(network, "model.diffusion_model.", torch.float64)
    known, encoded = known_answer("ldm_unet"), known_answer("ldm_encoder")
    assert np.abs(numbers(5000, known["xT"].size) * 3**0.5 - known["xT"].flatten()).max() < 1e-6
    found = stages_of(network, known, "unet")
    seen = [torch.from_numpy(t).double() for t in (known["xT"], encoded["latent"], encoded["mask_latent"][None])]
    noise = network(torch.cat(seen)[None], 501)[0].numpy()
    assert np.abs(noise - known["eps_501"]).max() < 1e-6
    check_stages(found, known, 29)
    wanted = known["stage/unet.timestep_embedding"]
    assert np.abs(summary(network.time(501, seen[0])) - wanted).max() < 1e-12


@pytest.mark.known_answers
@torch.no_grad()
def test_four_steps_are_the_authors():
    """In float32, from the latent of the answers on: 3e-5 of 42 off."""
    known, encoded = known_answer("ldm_trajectory"), known_answer("ldm_encoder")
    with torch.device("meta"):
        network = LatentDiffusion(n_steps=4)
    filled(network.first_stage_model, "first_stage_model.", torch.float32)
    filled(network.model["diffusion_model"], "model.diffusion_model.", torch.float32)
    masks, latents = [], []

    def encode(image):
        masks.append(image)
        return torch.from_numpy(encoded["latent"])[None]

    network.first_stage_model.encode = encode
    image, mask = encoded["image"].float(), encoded["mask"].float()
    noise = torch.from_numpy(known["trajectory"][0])[None]
    started = time.perf_counter()
    for picture_so_far in network.passes(image, mask, noise=noise):
        latents.append(picture_so_far.args[0][0].numpy())
    assert time.perf_counter() - started < 600 and torch.equal(masks[0], torch.where(mask > 0, -1, 2 * image - 1))
    for found, wanted in zip(latents, [*known["pred_x0"][:3], known["trajectory"][4]], strict=True):
        assert np.abs(found - wanted).max() < 1e-4
    final = torch.from_numpy(known["trajectory"][4])[None]
    codes = network.first_stage_model.codes(final)[0].numpy()
    assert np.array_equal(*(but_close(some, known["final_close_codes"]) for some in (codes, known["final_codes"])))
    nearest = network.first_stage_model.quantize["embedding"](torch.from_numpy(known["final_codes"]).long()[None])
    raw = network.first_stage_model.decoded(nearest.permute(0, 3, 1, 2))
    check_picture(raw[0], known, "final_raw", 1e-4)
    pasted = torch.where(mask > 0, ((raw + 1) / 2).clamp(0, 1), image)
    check_picture(pasted[0], known, "inpainted", 1e-4)
