"""ZITS: its conventions, its cut and its weights on a tiny one, and each of its networks against its authors' answers."""

import hashlib
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TESTS, picture
from formula_hash import picture_by_formula, state_by_hash
from safetensors.torch import save_file

from refine_lib import load_network, multiscale_inpaint, split_network
from refine_lib.evaluate.methods import Case, Plain, Refined
from refine_lib.evaluate.pictures import Picture
from refine_lib.fast.memory import bytes_per_pixel
from refine_lib.fast.speed import sped_up
from refine_lib.networks import zits_structure, zits_transformer, zits_wireframe
from refine_lib.networks.registry import WEIGHTS
from refine_lib.networks.zits import ZITSGenerator, edges
from refine_lib.optimizers import OPTIMIZERS

ANSWERS = TESTS / "known_answers"
KEYS = json.loads((ANSWERS / "zits_keys.json").read_text())
IDLE = ("tspan", "attn.mask", "out.0.weight", "out.0.bias", "out.2.weight", "out.2.bias")


TINY = {"ngf": 8, "n_blocks": 2, "dim": 32, "depth": 2}


@pytest.fixture(scope="module")
def tiny():
    """A ZITS that is sure of every line that it sees."""
    torch.manual_seed(1)
    network = ZITSGenerator(**TINY).eval().requires_grad_(False)
    network.wireframe.fc2[4].bias.fill_(3)
    return network


def seen(batch=1, height=128, width=192):
    """What the network sees: pictures with holes, (B, 4, H, W)."""
    image, mask = picture(height, width, batch, dtype=torch.float32)
    return torch.cat([image, mask], dim=1)


@pytest.mark.parametrize("size", [(128, 192), (256, 256), (520, 328)])
@torch.no_grad()
def test_what_the_hole_holds_is_not_seen(tiny, size):
    x = seen(1, *size)
    other = torch.where(x[:, 3:] > 0, torch.rand(x.shape).where(torch.rand(x.shape) > 0.5, torch.nan), x)
    other[:, 3] = x[:, 3]
    out = tiny(x)
    assert out.shape == (1, 3, *size) and out.min() >= 0 and out.max() <= 1
    assert torch.equal(tiny(other), out)


@torch.no_grad()
def test_a_batch_is_its_pictures(tiny):
    x = seen(2)
    x[1, 3, 80:] = 1
    assert torch.allclose(tiny(x), torch.cat([tiny(x[:1]), tiny(x[1:])]), atol=1e-5)


def test_edges_are_those_of_what_is_known():
    image, mask = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    image[..., 60:] = 1
    image[..., 150:] = 0  # this edge is in the hole, from the row 100 on
    mask[..., 100:, 120:200] = 1
    found = edges(image, mask)[0, 0]
    assert found[10:246, 59:61].any(dim=1).all() and found[10:90, 149:151].any(dim=1).all()
    assert not found[100:, 110:210].any() and found.sum() < 500  # nor is the hole's border an edge
    filled = torch.where(mask > 0, torch.rand(image.shape), image)
    assert torch.equal(edges(filled, mask)[0, 0], found)


class TwoLines(zits_wireframe.Wireframe):
    """A wireframe that has seen a line across, one to the corner, and one that it is not sure of."""

    def forward(self, image, mask):
        lines = torch.tensor([[0.25, 0.5, 0.75, 0.5], [0.9, 0.9, 1.0, 1.0], [0.5, 0.1, 0.5, 0.9]])
        return lines, torch.tensor([0.9, 0.9, 0.84])


def test_sure_lines_are_drawn():
    drawn = TwoLines(2).drawn(torch.zeros(1, 3, 512, 512), torch.zeros(1, 1, 512, 512), 256)[0, 0]
    assert (drawn[128, 64:193] == 1).all() and drawn[255, 255] == 1 and drawn[:, :64].sum() == 0
    assert drawn[50, 128] == drawn[200, 128] == 0 and 0 <= drawn.min() <= drawn.max() <= 1


@torch.no_grad()
def test_a_picture_without_junctions_has_no_lines():
    network = zits_wireframe.Wireframe(4).eval()
    network.backbone.score[1].heads[3][2].bias.copy_(torch.tensor([1e3, -1e3]))
    lines, scores = network(torch.rand(1, 3, 512, 512), torch.zeros(1, 1, 512, 512))
    assert lines.shape == (0, 4) and scores.shape == (0,)
    assert not network.drawn(torch.rand(1, 3, 512, 512), torch.zeros(1, 1, 512, 512), 256).any()


def test_positions_by_hand():
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 10:15, 10:15] = 1
    distance, directions = zits_structure.positions(mask)
    assert distance[12, 10:15].tolist() == [1, 2, 3, 2, 1] and not distance[0].any()
    assert directions[:, 10, 10].tolist() == [1, 1, 1, 0] and directions[:, 12, 12].tolist() == [1, 1, 1, 1]
    assert directions[:, 12, 10].tolist() == [1, 1, 0, 0]  # the known is at its left
    mask = torch.ones(1, 1, 512, 512)
    mask[..., :2, :2] = 0
    assert zits_structure.positions(mask)[0].max() == zits_structure.FARTHEST
    assert not zits_structure.positions(torch.zeros(1, 1, 64, 64))[0].any()


def test_a_mask_without_a_known_pixel_is_named(tiny):
    model = split_network(tiny)
    image, mask = torch.rand(1, 3, 512, 512), torch.ones(1, 1, 512, 512)
    told = "mask leaves no known pixel at 256 x 256 px, where ZITS looks at it; expected some"
    for mask[..., 0, 0] in (1, 0):  # a pixel of 256 x 256 px is known where all of it is
        with pytest.raises(ValueError, match=told):
            model(image, mask)
    mask[..., :2, :2] = 0
    assert model(image, mask).isfinite().all()
    assert bytes_per_pixel(model, OPTIMIZERS["adam"]) > 100  # of a picture that is all hole but for a corner


def test_a_picture_that_is_too_small_is_named(tiny):
    model, image = split_network(tiny), torch.rand(1, 3, 17, 30)
    assert model(image, torch.zeros(1, 1, 17, 30)).isfinite().all()
    with pytest.raises(ValueError, match="image is 16 x 32 px; expected at least 24 px a side"):
        model(image[..., :16, :], torch.zeros(1, 1, 16, 30))


WRONG = [{"ngf": 0}, {"ngf": 3}, {"n_blocks": 0}, {"dim": 12}, {"dim": 0}, {"depth": 0}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=r"(ngf|dim) is .*; expected"):
        ZITSGenerator(**TINY | wrong)


def test_scikit_image_is_asked_for(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"ZITS needs the module skimage: pip install 'refine_lib\[metrics\]'"):
        split_network(tiny)


def test_it_is_cut_where_lama_is_and_refined(tiny):
    """Sides that are no multiple of 8 px; the fast path is LaMa's, and gives the same picture."""
    image, mask = picture(150, 206, dtype=torch.float32)
    model = split_network(tiny)
    z = model.front(image, mask)
    assert [tuple(t.shape) for t in z] == [(1, 16, 19, 26), (1, 48, 19, 26)]
    assert torch.equal(model.rear(z), model(image, mask))
    named = split_network(tiny, at=["generator.middle.1"])
    assert torch.allclose(named.rear(named.front(image, mask)), model(image, mask), atol=1e-6)
    settings = dict(smallest_scale=64, n_iters=4, lr=0.02, erosion=3, progress=False)
    results = [multiscale_inpaint(image, mask, model, speed=speed, **settings) for speed in ("exact", "auto")]
    known = (mask == 0).expand_as(image)
    for result in results:
        assert result.losses[-1][-1] < result.losses[-1][0] and result.note == ""
        assert torch.equal(result.image[known], image[known])
    assert results[1].speed == "batch norms folded, channels last, blocks fused, decoded around the hole"
    assert torch.allclose(results[0].image, results[1].image, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(z, sped_up(model)[0].front(image, mask), strict=True))


def test_edges_and_lines_are_found_once_a_level(tiny):
    model, calls = split_network(tiny), []
    hook = tiny.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        multiscale_inpaint(
            *picture(256, 256, dtype=torch.float32), model, 64, n_iters=3, erosion=3, speed="exact", progress=False
        )
    finally:
        hook.remove()
    assert len(calls) == 3 * zits_transformer.ROUNDS


def test_without_the_wireframe_it_says_so(tiny, tmp_path):
    state = {name: t for name, t in tiny.state_dict().items() if not name.startswith("wireframe.")}
    save_file(state, tmp_path / "zits.safetensors")
    model = load_network(tmp_path / "zits.safetensors", device="cpu")
    image, mask = picture(128, 128, dtype=torch.float32)
    result = multiscale_inpaint(image, mask, model, smallest_scale=64, n_iters=1, erosion=3, progress=False)
    assert result.note == "ZITS has no weights of its wireframe: it looks for edges, and not for lines."
    case = Case(Picture("a"), "box", image * (1 - mask), mask)
    for method in (Plain("plain", model), Refined("refined", model, {"n_iters": 0, "smallest_scale": 64, "lr": 0.002})):
        assert method.fill(case)[1].endswith(model.note) and model.note
    assert not torch.equal(model(image, mask), split_network(tiny)(image, mask))
    assert split_network(tiny).note == ""


def published_names(state):
    """A state by the names of the published files, with all that is not used."""
    state = {name.replace(".conv1.ffc", ".ffc1.ffc").replace(".conv2.ffc", ".ffc2.ffc"): t for name, t in state.items()}
    state = {re.sub(r"(middle.*)\.conv([12])\.bn", r"\1.ffc\2.bn", name): t for name, t in state.items()}
    extra = ("transformer.blocks.1.attn.mask", "wireframe.tspan", *(f"structure_upsample.out.{i}.weight" for i in (0, 2)))
    return state | {name: torch.zeros(1) for name in extra}


# How a part's names may begin in a file: unknown for the four published files, as the authors' for the others.
PREFIXES = {
    "ours": {part: f"{part}." for part in KEYS},
    "nested": {part: f"inpaint.{part}." if part in ("generator", "str_encoder") else f"{part}.m.model." for part in KEYS},
    "within": {part: "inpaint." if part == "generator" else f"inpaint.{part}." for part in KEYS},
    "the authors'": dict(
        wireframe="best_lsm_hawp.pth.model.",
        transformer="best_transformer_places2.pth.model.",
        structure_upsample="StructureUpsampling.pth.model.",
        generator="InpaintingModel_best_gen.pth.generator.",
        str_encoder="InpaintingModel_best_gen.pth.str_encoder.",
    ),
}


@pytest.mark.parametrize("names", PREFIXES)
def test_its_parts_are_found_whatever_stands_before_their_names(tiny, names, tmp_path):
    state = published_names({name: t for name, t in tiny.state_dict().items() if not name.endswith("num_batches_tracked")})
    state = {PREFIXES[names][name.partition(".")[0]] + name.partition(".")[2]: t for name, t in state.items()}
    save_file(state, tmp_path / "zits.safetensors")
    model = load_network(tmp_path / "zits.safetensors", device="cpu")
    image, mask = picture(64, 64, dtype=torch.float32)
    assert torch.equal(model(image, mask), split_network(tiny)(image, mask))


def test_parts_that_are_missing_or_there_twice_are_named(tiny, tmp_path):
    state = tiny.state_dict()
    for name, told in (
        ("transformer.", "it has no transformer.conv4.weight"),
        ("generator.", "it has no generator.conv1.weight"),
    ):
        save_file({key: t for key, t in state.items() if not key.startswith(name)}, tmp_path / "part.safetensors")
        with pytest.raises(ValueError, match=f"does not hold a .* ZITS or .* generator: {told}"):
            load_network(tmp_path / "part.safetensors", device="cpu")
    save_file(state | {"other.convs.1.weight": torch.zeros(1)}, tmp_path / "twice.safetensors")
    with pytest.raises(ValueError, match="it holds more than one structure_upsample"):
        load_network(tmp_path / "twice.safetensors", device="cpu")


def test_the_published_network_comes_in_four_files(tiny, tmp_path, monkeypatch):
    """Files that were put into the cache by hand are checked, joined, and kept as one network."""
    monkeypatch.setenv("REFINE_CACHE", str(tmp_path))
    inner = {"inpaint": ("generator", "str_encoder"), "edge-line": ("transformer",), "wireframe": ("wireframe",)}
    inner["structure-upsample"] = ("structure_upsample",)
    assert [len(sources) for sources in WEIGHTS["zits"].files] == [1] * 4
    files, state = [], published_names(tiny.state_dict())
    for (source,) in WEIGHTS["zits"].files:
        assert source.name.endswith("-0717.pt") and source.url.endswith(source.name.removeprefix(source.prefix))
        parts = inner.pop(source.prefix.rstrip("."))
        torch.save({name: t for name, t in state.items() if name.partition(".")[0] in parts}, tmp_path / source.name)
        md5 = hashlib.md5((tmp_path / source.name).read_bytes()).hexdigest()
        files.append((replace(source, md5=md5),))
    monkeypatch.setitem(WEIGHTS, "zits", replace(WEIGHTS["zits"], files=tuple(files)))
    image, mask = picture(64, 64, dtype=torch.float32)
    for _ in range(2):
        assert torch.equal(load_network("zits", "cpu", progress=False)(image, mask), split_network(tiny)(image, mask))
        assert [path.name for path in tmp_path.glob("zits.*t*")] == ["zits.safetensors"]


def test_the_whole_network_has_the_authors_entries():
    with torch.device("meta"):
        state = published_names(ZITSGenerator().state_dict())
    wanted = {f"{part}.{name}": shape for part in KEYS for name, shape in KEYS[part].items() if not name.endswith(IDLE)}
    assert len(wanted) == 1725 and wanted == {n: list(t.shape) for n, t in state.items() if not n.endswith(IDLE)}


def answers(name):
    """The arrays of a known answer, its ``meta`` read."""
    with np.load(ANSWERS / f"zits_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays | {"meta": json.loads(str(arrays.get("meta", "{}")))}


def scale(name, s):
    """The size of an entry of the known answers."""
    fan = s.size / s.shape[0] if s.ndim else 1
    narrow = s * (3 / fan) ** 0.5
    if name.endswith("running_var"):
        return 1 + 0.5 * s
    if name == "pos_emb" or name.endswith("running_mean"):
        return 0.1 * s
    if name.startswith("alpha") or name.endswith("weight") and s.ndim == 1:
        return 1 + 0.2 * s
    if name.endswith("bias"):
        return 0.1 * s
    return narrow * (0.6 if "ffc" in name else 2**0.5)


SPECIAL = {  # in place of ``scale``: s and 1 / sqrt(fan)
    "generator": {"convt4.weight": lambda s, f: 0.3 * s * 3**0.5 * f},
    "structure_upsample": {"convs.7.weight": lambda s, f: 3 * s * 3**0.5 * f, "convs.7.bias": lambda s, f: 0.1 * s - 3},
    "transformer": {"convt4.weight": lambda s, f: 6 * s * 3**0.5 * f, "convt4.bias": lambda s, f: 0.1 * s - 1},
    "wireframe": {
        ".conv3.weight": lambda s, f: 0.25 * s * 3**0.5 * f,
        "fc1.weight": lambda s, f: 0.02 * s * 3**0.5 * f,
        ".2.weight": lambda s, f: 0.02 * s * 3**0.5 * f,
        "score_.0.weight": lambda s, f: 0.25 * s * 3**0.5 * f,
        "fc_.0.weight": lambda s, f: 0.25 * s * 3**0.5 * f,
    },
}


def with_weights(network, part):
    """A network of the whole ZITS with the weights of the known answers, in float64; made without memory."""

    def scaled(name, s):
        for end, special in SPECIAL.get(part, {}).items():
            if name.endswith(end) and (end != ".2.weight" or ".heads." in name):
                return special(s, (s.shape[0] / s.size) ** 0.5)
        return scale(name, s)

    left = {"num_batches_tracked", "rel_pos_emb.weight", *IDLE}
    state = state_by_hash(KEYS[part], scaled, tuple(left))
    state = {name.replace(".ffc1.", ".conv1.").replace(".ffc2.", ".conv2."): t for name, t in state.items()}
    state |= {name: torch.tensor(0) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    if part == "str_encoder":
        state["rel_pos_emb.weight"] = zits_structure.StructureEncoder(64).rel_pos_emb.weight.detach().double()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def summary(t):
    """Mean, standard deviation and eight numbers of a tensor, as the known answers have them."""
    flat = t.flatten()
    return np.array([flat.mean(), flat.std(correction=0), *(flat[len(flat) * j // 8] for j in range(8))])


class Stages:
    """What the modules of a network give, by the names that the known answers have for them."""

    def __init__(self, modules, order=None):
        self.found = {}
        self.hooks = [layer.register_forward_hook(self._hook(name, order)) for name, layer in modules.items()]

    def _hook(self, name, order):
        def hook(module, args, output):
            t = torch.cat(output, dim=1) if isinstance(output, tuple) else output
            self.found.setdefault(name, t.permute(0, 3, 1, 2) if order and order(name) else t)

        return hook

    def compare(self, known, beside=()):
        for hook in self.hooks:
            hook.remove()
        wanted = {name.removeprefix("stage/"): value for name, value in known.items() if name.startswith("stage/")}
        assert wanted.keys() - self.found.keys() == set(beside)
        for name in wanted.keys() & self.found.keys():
            assert list(self.found[name].shape) == known["meta"]["shapes"][name], name
            off = np.abs(summary(self.found[name]) - wanted[name]).max()
            assert off < 1e-6 * np.abs(wanted[name]).max(), (name, off)


def assert_parts_alike(found, known, name, tolerance=1e-6):
    """Compares the last three axes with ``NAME_sparse`` and ``NAME_patch``."""
    step, (row, column, size) = known["meta"]["sparse"][name], known["meta"]["patch"][name]
    size_of = max(1.0, np.abs(known[f"{name}_patch"]).max())
    for part, kind in (
        (found[..., ::step, ::step], "sparse"),
        (found[..., row : row + size, column : column + size], "patch"),
    ):
        assert np.abs(part.numpy() - known[f"{name}_{kind}"]).max() < tolerance * size_of, kind


def maps(known, *names):
    return [torch.from_numpy(known[name])[None, None].double() for name in names]


@pytest.mark.parametrize("case", ["square_256", "wide_192_256", "square_512", "border_256"])
def test_positions_are_the_authors(case):
    known = answers("position")
    distance, directions = zits_structure.positions(torch.from_numpy(known[f"{case}/mask"])[None, None].float())
    assert np.array_equal(distance.numpy(), known[f"{case}/rel_pos"])
    assert np.array_equal(directions.permute(1, 2, 0).numpy(), known[f"{case}/direct"])


@torch.no_grad()
def test_a_map_is_doubled_as_by_the_authors():
    known = answers("upsample")
    with torch.device("meta"):
        network = zits_structure.StructureUpsampling(64)
    stages = Stages({f"convs.{i}": with_weights(network, "structure_upsample").convs[i] for i in (1, 3, 5, 7)})
    (edge,) = maps(known, "edge")
    edge = edge / 255
    logits = network(edge)[0, 0].numpy()
    stages.compare(known)
    assert np.abs(logits - known["logits"]).max() < 1e-6 * np.abs(known["logits"]).max()
    doubled = torch.sigmoid(2 * (network(edge) + 2))
    assert np.abs(doubled[0, 0].numpy() - known["upsampled"]).max() < 1e-6


@pytest.mark.known_answers
@torch.no_grad()
def test_the_generator_is_the_authors():
    known = answers("ftr")
    with torch.device("meta"):
        network = ZITSGenerator(lines=False)
    for part in ("generator", "str_encoder", "structure_upsample", "transformer"):
        with_weights(getattr(network, part), part)
    layers = network.eval().layers
    front, encoder, generator = layers[0], network.str_encoder, network.generator
    modules = {f"str_encoder.{n}": getattr(encoder, n) for n in ("bn1", "bn2", "bn3", "bn4", "middle", "convt1", "bnt3")}
    names = ("conv1", "bn1", "bn2", "bn3", "bn4", "bnt1", "bnt3")
    modules |= {f"generator.{name}": getattr(generator, name) for name in names}
    modules |= {f"generator.middle.{i}": generator.middle[i] for i in (0, 8)}
    stages = Stages(modules)
    image = torch.from_numpy(known["image"]).permute(2, 0, 1)[None].double() / 255
    mask, edge, line = maps(known, "mask", "edge", "line")
    distance = torch.from_numpy(known["rel_pos"])[None].long()
    directions = torch.from_numpy(known["direct"]).permute(2, 0, 1)[None].double()
    z = front.featuremaps(image, mask, edge / 255, line / 255, distance, directions)
    prediction = layers[1:](z)[0]
    stages.found["generator.convt4"] = generator.convt4(layers[1:-2](z))
    for i, s in enumerate(encoder(edge / 255, line / 255, mask)):
        stages.found[f"str_feats.{i}"] = s
    stages.compare(known, {"rel_pos_emb", "direct_emb"})
    assert_parts_alike(prediction, known, "prediction")


@pytest.fixture(scope="module")
def transformer():
    with torch.device("meta"):
        network = zits_transformer.StructureTransformer()
    return with_weights(network, "transformer")


@pytest.mark.known_answers
@torch.no_grad()
def test_the_transformer_and_its_rounds_are_the_authors(transformer):
    known = answers("transformer")
    blocks = transformer.blocks
    modules = {name: getattr(transformer, name) for name in ("conv1", "conv4", "ln_f", "convt3")}
    modules |= {f"blocks.{i}": blocks[i] for i in (0, 1, 2, 15)}
    modules |= {f"blocks.0.{name}": getattr(blocks[0], name) for name in ("attn_row", "attn_col")}
    stages = Stages(modules, order=lambda name: name.startswith("blocks") and "attn" not in name)
    image = torch.from_numpy(known["image"]).permute(2, 0, 1)[None].double() / 127.5 - 1
    mask, edge, line = maps(known, "mask", "edge_in", "line_in")
    logits = transformer(image, edge, line / 255, mask)[0]
    stages.compare(known)
    for t, name in zip(logits, ("edge_logits", "line_logits"), strict=True):
        assert_parts_alike(t, known, name)
    for rounds in (1, 5):
        edge_found, line_found = transformer.completed(image, edge, line / 255, mask, rounds)
        assert np.array_equal(edge_found[0, 0].numpy(), known[f"edge_{rounds}"])
        assert np.abs(line_found[0, 0].numpy() - known[f"line_{rounds}"]).max() < 1e-6


@pytest.mark.known_answers
@torch.no_grad()
def test_the_wireframe_and_its_lines_are_the_authors():
    known = answers("wireframe")
    with torch.device("meta"):
        network = zits_wireframe.Wireframe()
    backbone = with_weights(network, "wireframe").backbone
    modules = {name: network.get_submodule(name) for name in ("fc1", "backbone.bn1")}
    modules |= {f"backbone.layer{i}": getattr(backbone, f"layer{i}") for i in (1, 2, 3)}
    modules |= {f"backbone.{name}.{i}": getattr(backbone, name)[i] for name in ("hg", "fc", "score") for i in (0, 1)}
    stages = Stages(modules)
    (mask,) = maps(known, "mask")
    lines, scores = network(picture_by_formula(512, 512) / 255, mask)
    stages.compare(known)
    found = stages.found["backbone.score.1"][0]
    assert_parts_alike(found, known, "maps")
    places, sure = zits_wireframe.junctions(found)
    assert np.abs(sure.numpy() - known["juncs_score"]).max() < 1e-6
    assert np.abs(places.numpy() / 128 - known["juncs_pred"] / (128 if known["juncs_pred"].max() > 1 else 1)).max() < 1e-6
    assert lines.shape == (1424, 4)
    assert np.abs(lines.numpy() - known["lines_pred"]).max() < 1e-6
    assert np.abs(scores.numpy() - known["lines_score"]).max() < 1e-6


@pytest.mark.known_answers
def test_the_whole_network_is_refined():
    """512 px from 256 px with the weights of the known answers, in float32."""
    with torch.device("meta"):
        network = ZITSGenerator()
    for part in KEYS:
        with_weights(getattr(network, part), part)
    image = (picture_by_formula(512, 512) / 255).float()
    mask = torch.from_numpy(answers("wireframe")["mask"])[None, None].float()
    model = split_network(network.float())
    result = multiscale_inpaint(image, mask, model, smallest_scale=256, n_iters=3, lr=0.02, progress=False)
    losses = result.losses[-1]
    assert result.n_levels == 2 and losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
    assert "blocks fused" in result.speed and result.image.isfinite().all()
