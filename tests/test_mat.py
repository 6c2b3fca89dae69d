"""MAT: its conventions, its cut and its weights on a tiny one, and the whole network against its authors' answers."""

import json

import numpy as np
import pytest
import torch
from conftest import TESTS, known_answer
from formula_hash import numbers, picture_by_formula, state_by_hash
from safetensors.torch import save_file

from refine_lib import load_network, multiscale_inpaint, split_network
from refine_lib.networks.mat import MATGenerator

KEYS = TESTS / "known_answers" / "mat_keys.json"
IDLE = ("resample_filter", "attn_mask")
NOISE = ("noise_const", "noise_strength")
TINY = {"channels": (4, 4, 8, 8, 8, 8), "dim": 12, "window": 4}


@pytest.fixture(scope="module")
def tiny():
    """A MAT for multiples of 128 px."""
    torch.manual_seed(1)
    return MATGenerator(**TINY, has_noise=True).eval()


def seen(batch=1, height=128, width=256):
    """What the network sees: pictures with holes, (B, 4, H, W)."""
    x = torch.rand(batch, 4, height, width) * 2 - 1
    x[:, 3] = 0
    x[:, 3, 30:70, 40:100] = 1
    return x


@torch.no_grad()
def test_it_fills_the_hole_alone_whatever_it_holds(tiny):
    x = seen()
    out = tiny(x)
    known = (x[:, 3:] == 0).expand(-1, 3, -1, -1)
    assert out.shape == (1, 3, 128, 256) and torch.equal(out[known], x[:, :3][known])
    other = torch.where(x[:, 3:] > 0, 0.3, x)
    other[:, 3] = x[:, 3]
    assert torch.equal(tiny(other), out)
    assert not torch.equal(out[~known], x[:, :3][~known])


@torch.no_grad()
def test_two_runs_agree_and_two_seeds_do_not(tiny):
    x, other = seen(), MATGenerator(**TINY, has_noise=True, seed=1).eval()
    other.load_state_dict(tiny.state_dict())
    assert torch.equal(tiny(x), tiny(x)) and not torch.allclose(tiny(x), other(x))
    z = torch.randn(1, 8)
    assert not torch.allclose(tiny(x, z=z), tiny(x)) and torch.allclose(tiny(x, z=z), tiny(x, z=3 * z), atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_pictures(tiny):
    x = seen(2)
    x[1, 3, 64:] = 1
    assert torch.allclose(tiny(x), torch.cat([tiny(x[:1]), tiny(x[1:])]), atol=1e-5)


@torch.no_grad()
def test_noise_is_none_const_or_random(tiny):
    for block in tiny.synthesis.dec.values():
        for layer in (block.conv0, block.conv1):
            if hasattr(layer, "noise_strength"):
                layer.noise_strength.fill_(0.5)
    small, found = seen(1, 128, 128), {}
    try:
        for tiny.noise in ("none", "const", "random"):
            found[tiny.noise] = tiny(small)
            assert torch.equal(found[tiny.noise], tiny(small))
        tiny.noise = "const"
        with pytest.raises(ValueError, match="noise is 'const', which is for 128 px a side; expected 'random' or 'none'"):
            tiny(seen())
    finally:
        tiny.noise = "none"
    assert len({picture.sum().item() for picture in found.values()}) == 3


WRONG = {
    "channels": {"channels": (4, 4)},
    "the last two": {"channels": (4, 4, 8, 8, 8, 16)},
    "dim": {"dim": 16},
    "window": {"window": 5},
    "noise": {"noise": "some"},
    "noise without weights": {"noise": "const"},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    with pytest.raises(ValueError, match=r"(channels|dim|noise) is .*; expected"):
        MATGenerator(**TINY | WRONG[case])


def test_a_size_that_is_no_multiple_is_named(tiny):
    with pytest.raises(ValueError, match="image is 128 x 200 px; expected multiples of 128 px"):
        tiny(seen(1, 128, 200))


def test_z_is_the_mixed_featuremap_or_by_name_more(tiny):
    image, mask = torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., 60:140, 80:200] = 1
    models = split_network(tiny), split_network(tiny, moves=tiny.wide)
    shapes = [(1, 8, 8, 8), (1, 8, 16, 16), (1, 8, 32, 32)]
    last = []
    for model, wanted in zip(models, (shapes[:1], shapes), strict=True):
        assert sorted(tuple(t.shape) for t in model.front(image, mask)) == wanted
        assert torch.equal(model.rear(model.front(image, mask)), model(image, mask))
        result = multiscale_inpaint(image, mask, model, smallest_scale=128, n_iters=4, lr=0.02, erosion=3, progress=False)
        assert result.losses[-1][-1] < result.losses[-1][0]
        last.append(result.losses[-1][-1])
    assert last[1] < last[0]
    with pytest.raises(ValueError, match="moves is 'synthesis.mixer'; expected the name of a layer, for instance synthesis"):
        split_network(tiny, moves=["synthesis.mixer"])


def test_padding_is_said(tiny):
    image, mask = torch.rand(1, 3, 140, 256), torch.zeros(1, 1, 140, 256)
    mask[..., 30:70, 40:100] = 1
    result = multiscale_inpaint(image, mask, split_network(tiny), smallest_scale=128, n_iters=0, progress=False)
    assert result.note == "The network takes multiples of 128 px: 140 x 256 px are padded to 256 x 256 px."
    assert torch.equal(result.image[..., 70:, :], image[..., 70:, :])


@pytest.mark.parametrize("names", [{}, {"prefix": "model."}, {"without": NOISE}, {"without": IDLE}])
def test_weights_come_with_and_without_noise_and_what_is_not_used(tiny, names, tmp_path):
    tiny.noise = "none"
    state = dict(tiny.state_dict())
    for name in [name for name in state if name.endswith("conv.weight")]:
        state[name.removesuffix("weight") + "resample_filter"] = torch.rand(4, 4)
    state["synthesis.first_stage.tran.0.blocks.1.attn_mask"] = torch.zeros(4, 4, 4)
    state = {
        names.get("prefix", "") + name: t for name, t in state.items() if not name.endswith(tuple(names.get("without", "?")))
    }
    save_file(state, tmp_path / "mat.safetensors")
    model = load_network(tmp_path / "mat.safetensors", device="cpu")
    image, mask = torch.rand(1, 3, 128, 128), torch.zeros(1, 1, 128, 128)
    mask[..., 30:70, 40:100] = 1
    assert torch.equal(model(image, mask), split_network(tiny)(image, mask))


def test_weights_that_are_not_whole_are_named(tiny, tmp_path):
    state = dict(tiny.state_dict())
    state["mapping.fc3.bias"] = state["mapping.fc3.bias"] * float("nan")
    save_file(state, tmp_path / "mat.safetensors")
    with pytest.raises(ValueError, match="weights are not all finite|not finite"):
        load_network(tmp_path / "mat.safetensors", device="cpu")


def test_the_whole_network_has_the_authors_entries():
    with torch.device("meta"):
        state = MATGenerator(has_noise=True).state_dict()
    wanted = json.loads(KEYS.read_text())
    assert len(wanted) == 487 and {name: list(t.shape) for name, t in state.items()} == {
        name: shape for name, shape in wanted.items() if not name.endswith(IDLE)
    }


def scale(name, s):
    """The size of an entry of the known answers."""
    if name.endswith("affine.bias"):
        return 1 + 0.1 * s
    if s.ndim < 2:
        return (10 if name.startswith("mapping.fc") else 0.1) * s
    return 3**0.5 * s * (100 if name.startswith("mapping.") else 0.05 if name.endswith("toRGB.conv.weight") else 1)


def kept(height, width):
    """Where the known answers keep the featuremaps, (1, C, h, w) for each stage; the first was drawn token by token."""
    first, second = (numbers(1000 + j, n * height * width) > 0 for j, n in enumerate((180, 512)))
    first = torch.from_numpy(first).reshape(1, height, width, 180).permute(0, 3, 1, 2)
    return first, torch.from_numpy(second).reshape(1, 512, height, width)


@pytest.fixture(scope="module")
def whole():
    """The whole network with the weights of the known answers, in float64."""
    with torch.device("meta"):
        network = MATGenerator(has_noise=True)
    network.load_state_dict(state_by_hash(KEYS, scale, IDLE), assign=True)
    return network.eval().requires_grad_(False)


def stages(network):
    """The layers by the names that the known answers have for their outputs."""
    first, second = network.synthesis.first_stage, network.synthesis
    found = {f"s1_{name}": getattr(first, name) for name in ("conv_first", "ws_style", "to_square", "to_style")}
    found |= {"s1_enc_conv_2": first.enc_conv[2], "s1_out": first, "s2_z_mixed": second.mix}
    found |= {f"s1_tran_0_block_{i}": block for i, block in enumerate(first.tran[0].blocks)}
    found |= {f"s1_{list_}_{i}": m for list_ in ("tran", "dec_conv") for i, m in enumerate(getattr(first, list_))}
    found |= {f"s2_{name}": getattr(second, name) for name in ("to_square", "to_style")}
    return found | {
        f"s2_{kind}_{name.rpartition('x')[2]}": m for kind in ("enc", "dec") for name, m in getattr(second, kind).items()
    }


def summary(t):
    """Mean, standard deviation and eight numbers of a tensor, as the known answers have them."""
    flat = t.flatten()
    return np.array([flat.mean(), flat.std(correction=0), *(flat[len(flat) * j // 8] for j in range(8))])


@pytest.mark.known_answers
@pytest.mark.parametrize(
    "case", ["none_psi07", *(pytest.param(case, marks=pytest.mark.thorough) for case in ("const_psi1", "wide_none_psi1"))]
)
def test_every_stage_is_the_authors(whole, case):
    known, outputs, hooks = known_answer("mat_forward"), {}, []
    meta = known["meta"][case]

    def keep(name):
        def hook(module, args, output):
            pictures = output if isinstance(output, tuple) else (output,)
            t = pictures[0]
            tokens = t.permute(0, 2, 3, 1) if name.startswith("s1_tran") and "block" not in name else t
            outputs[name] = summary(tokens)
            if "dec" in name:
                outputs[f"{name}_rgb"] = summary(pictures[1])

        return hook

    image = picture_by_formula(*meta["size"]) / 127.5 - 1
    x = torch.cat([image, torch.from_numpy(known[f"{case}/mask"])[None, None].double()], dim=1)
    try:
        whole.noise = meta["noise_mode"]
        hooks = [layer.register_forward_hook(keep(name)) for name, layer in stages(whole).items()]
        output = whole(x, kept=kept(*(side // 32 for side in meta["size"])), psi=meta["truncation_psi"])[0]
    finally:
        whole.noise = "none"
        for hook in hooks:
            hook.remove()
    wanted = {name.rpartition("/")[2]: value for name, value in known.items() if name.startswith(f"{case}/stage/")}
    assert len(wanted.keys() & outputs.keys()) > 35
    for name in wanted.keys() & outputs.keys():
        assert np.abs(outputs[name] - wanted[name]).max() < 1e-6 * np.abs(wanted[name]).max(), name
    row, column, size = known["meta"]["patch"][f"{case}/output"]
    patch = output[:, row : row + size, column : column + size]
    for found, kind in ((output[:, ::8, ::8], "sparse"), (patch, "patch")):
        assert np.abs(found.numpy() - known[f"{case}/output_{kind}"]).max() < 1e-6


@pytest.mark.known_answers
def test_refined_it_is_the_authors_network_refined(whole):
    """1024 px from 512 px, three updates of z; in float32, which differs by 8e-6 from float64."""
    known = known_answer("mat_refine")
    network = MATGenerator(has_noise=True)
    network.load_state_dict(whole.state_dict())
    drawn = network.forward
    network.forward = lambda x: drawn(x, kept=kept(x.shape[-2] // 32, x.shape[-1] // 32))
    image, mask = (picture_by_formula(1024, 1024) / 255).float(), known["mask"].float()
    result = multiscale_inpaint(
        image, mask, split_network(network), smallest_scale=512, n_iters=3, lr=0.002, erosion=15, speed="exact", progress=False
    )
    assert np.abs(np.array(result.losses[-1]) - known["losses"]).max() < 1e-3 * known["losses"].max()
    assert result.losses[-1][-1] < result.losses[-1][0]
    for name, picture in (("level_0", result.levels[0].inpainted), ("level_1", result.image)):
        step = known["meta"]["sparse"][name]
        assert np.abs(picture[0, :, ::step, ::step].numpy() - known[f"{name}_sparse"]).max() < 1e-3, name
