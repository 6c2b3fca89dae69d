"""Whatever is switched on around a call, the picture is the same, and what was on is on again behind it."""

import contextlib
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from refine_lib import (
    LamaGenerator,
    NothingToRefine,
    brush_mask,
    build_pyramid,
    downscale,
    downscale_mask,
    erode,
    inpaint_photo,
    load_network,
    multiscale_inpaint,
    predict_and_refine,
    random_scenes,
    split_network,
    stroke_masks,
)
from refine_lib.fast import speed
from refine_lib.fast.products import product_of_onednn
from refine_lib.scenes import planes

RUN = dict(smallest_scale=32, n_iters=2, erosion=3, progress=False)


class Watching(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **kwargs or {})


class Dispatching(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **kwargs or {})


class Mine(torch.Tensor):
    pass


@contextlib.contextmanager
def setting(set_it, value, before):
    set_it(value)
    try:
        yield
    finally:
        set_it(before)


@contextlib.contextmanager
def anomalies():
    with warnings.catch_warnings(action="ignore"), torch.autograd.detect_anomaly():
        yield


AROUND = {
    "autocast bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", torch.float16),
    "device": lambda: torch.device("meta"),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "default float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "default float16": lambda: setting(torch.set_default_dtype, torch.float16, torch.float32),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomalies": anomalies,
    "a function mode": Watching,
    "a dispatch mode": Dispatching,
}


def network(by_name=False):
    generator = torch.Generator().manual_seed(1)
    if not by_name:
        made = LamaGenerator(ngf=4, n_blocks=2)
    else:
        made = nn.Sequential(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU()), nn.Conv2d(8, 3, 3, padding=1))
    for weight in made.parameters():
        weight.data = (torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 0.4).mul(0.3).float()
    return made


if torch.get_default_device().type != "cpu":
    pytest.skip("they put default devices of their own around calls", allow_module_level=True)
IMAGE, MASK = picture(64, 80, dtype=torch.float32)
SMALL = downscale(IMAGE)
MODELS = split_network(network()), split_network(network(by_name=True), at="0.1")
PHOTO = Image.fromarray((IMAGE[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
HOLE = Image.fromarray(MASK[0, 0].numpy().astype(np.uint8) * 255)


def filled(photo):
    return torch.from_numpy(np.array(photo.image))


TAKES_TENSORS = {
    "multiscale_inpaint": lambda image, mask, small: multiscale_inpaint(image, mask, MODELS[0], **RUN).image,
    "by name": lambda image, mask, small: multiscale_inpaint(image, mask, MODELS[1], **RUN).image,
    "polyak, the code's loss": lambda image, mask, small: (
        multiscale_inpaint(image, mask, MODELS[0], **RUN, optimizer="polyak", loss="code", speed="exact").image
    ),
    "mixed": lambda image, mask, small: multiscale_inpaint(image, mask, MODELS[0], **RUN, speed="mixed").image,
    "plain": lambda image, mask, small: multiscale_inpaint(image, mask, MODELS[0], **RUN).plain,
    "predict_and_refine": lambda image, mask, small: predict_and_refine(image, mask, small, MODELS[0], n_iters=2, erosion=3),
    "predict_and_refine, the code's loss": lambda image, mask, small: predict_and_refine(
        image, mask, small, MODELS[1], n_iters=2, erosion=3, loss="code"
    ),
    "build_pyramid": lambda image, mask, small: build_pyramid(image, mask, 16)[0].image,
    "downscale": lambda image, mask, small: downscale(image),
    "downscale_mask": lambda image, mask, small: downscale_mask(mask),
    "erode": lambda image, mask, small: erode(mask, 5),
}
MAKES: dict = {  # functions that make a function which makes a network
    "load_network": lambda: partial(load_network, "mini-lama", device="cpu"),
    "split_network": lambda: partial(split_network, network()),
    "split_network by name": lambda: partial(split_network, network(by_name=True), at="0.1"),
}
DRAWS = {
    "inpaint_photo": lambda: filled(inpaint_photo(PHOTO, HOLE, network=MODELS[0], dilation=2, soft_edge=2, **RUN)),
    "random_scenes": lambda: random_scenes(32, batch=3, seed=5, close_ups=0.5),
    "stroke_masks": lambda: stroke_masks(32, batch=3, seed=5),
    "brush_mask": lambda: brush_mask("thick", 64, seed=2),
}
EVERYTHING = {
    **{name: lambda call=call: call(IMAGE, MASK, SMALL) for name, call in TAKES_TENSORS.items()},
    **DRAWS,
    **{name: lambda make=make: make()()(IMAGE, MASK) for name, make in MAKES.items()},
}
with pytest.MonkeyPatch.context() as patch:  # as in ``units_for_bfloat16``, which is for tests: a busy machine measures wrongly
    patch.setattr(speed, "is_faster_in", lambda precision: True)
    WANTED = {name: call().detach().clone() for name, call in EVERYTHING.items()}


def thread_state():
    return (
        [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        torch.get_autocast_dtype("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.empty(0).device.type,
        torch.empty(0).dtype,
    )


def forget_what_was_made():
    """What is made once for a process or for a network is then made anew, within what is around the call."""
    product_of_onednn.cache_clear()
    planes._noise_table.cache_clear()
    with torch.no_grad():
        for weight in [weight for model in MODELS for weight in model.parameters()]:
            weight.mul_(1)


@pytest.mark.parametrize("around", AROUND)
def test_the_picture_is_the_same_whatever_is_around_the_call(around):
    forget_what_was_made()
    for name, call in EVERYTHING.items():
        call = MAKES[name]() if name in MAKES else call
        with AROUND[around]():
            before = thread_state()
            found = call()
            after = thread_state()
        assert after == before, name
        found = found(IMAGE, MASK) if name in MAKES else found
        assert found.dtype == WANTED[name].dtype and torch.equal(found, WANTED[name]), name


@pytest.mark.parametrize("around", AROUND)
def test_what_was_on_is_on_again_behind_an_error(around):
    def fails(step):
        raise KeyError(step.level)

    with AROUND[around]():
        before = thread_state()
        with pytest.raises(KeyError):
            multiscale_inpaint(torch.rand_like(IMAGE), MASK, MODELS[0], **RUN, callback=fails)
        assert thread_state() == before


def spread(t):
    """The same numbers with gaps between them."""
    return torch.stack([t, t + 1], dim=-1)[..., 0]


def negated(t):
    """The same numbers, with a sign that torch keeps beside them."""
    t = torch.complex(torch.zeros_like(t), -t).conj().imag
    assert t.is_neg()
    return t


def made_in_inference_mode(t):
    with torch.inference_mode():
        return t.clone()


AS = {
    "wants a gradient": lambda t: t.clone().requires_grad_(),
    "has a gradient": lambda t: t.clone().requires_grad_() * 1,
    "view": lambda t: torch.cat([t, t])[len(t) :],
    "transposed": lambda t: t.mT.contiguous().mT,
    "spread": spread,
    "flipped": lambda t: t.flip(-1).flip(-1),
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "negated": negated,
    "inference": made_in_inference_mode,
    "subclass": lambda t: t.as_subclass(Mine),
    "parameter": nn.Parameter,
    "from numpy, backwards": lambda t: torch.from_numpy(t.numpy()[..., ::-1].copy()).flip(-1),
}


@pytest.mark.parametrize("kind", AS)
def test_tensors_of_every_kind_are_taken(kind):
    for name, call in TAKES_TENSORS.items():
        found = call(*map(AS[kind], (IMAGE, MASK, SMALL)))
        wanted = WANTED[name]
        assert type(found) is torch.Tensor and torch.allclose(found, wanted, atol=1e-5), (name, (found - wanted).abs().max())


def test_pictures_that_share_their_memory_are_taken():
    image, mask, small = (t.expand(2, -1, -1, -1) for t in (IMAGE, MASK, SMALL))
    for name in ("multiscale_inpaint", "by name", "predict_and_refine, the code's loss"):
        assert torch.equal(TAKES_TENSORS[name](image, mask, small), TAKES_TENSORS[name](image.clone(), mask.clone(), small)), (
            name
        )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t.to("meta"), "on the meta device; expected a dense tensor"),
        (lambda t: t.to_sparse(), "of torch.sparse_coo; expected a dense tensor"),
        (lambda t: torch.nested.nested_tensor([t[0], t[0]], layout=torch.jagged), "nested; expected a dense tensor"),
        (lambda t: torch.complex(t, t), "complex64; expected"),
    ],
)
def test_tensors_without_a_number_for_each_place_are_named(make, words):
    for call in (
        lambda image: multiscale_inpaint(image, MASK, MODELS[0]),
        lambda image: predict_and_refine(image, MASK, SMALL, MODELS[0]),
        lambda image: build_pyramid(image, mask=MASK),
        downscale,
    ):
        with pytest.raises(TypeError, match=f"image is {words}"):
            call(make(IMAGE))
    with pytest.raises(TypeError, match=f"mask is {words}"):
        erode(make(MASK), 3)
    with pytest.raises(TypeError, match=f"mask is {words}"):
        multiscale_inpaint(IMAGE, model=MODELS[0], mask=make(MASK))


@pytest.mark.parametrize("by_name", [False, True])
def test_weights_of_inference_mode_are_taken(by_name):
    with torch.inference_mode():
        made = network(by_name)
    assert next(made.parameters()).is_inference()
    model = split_network(made, **({"at": "0.1"} if by_name else {}))
    name = "by name" if by_name else "multiscale_inpaint"
    assert torch.equal(multiscale_inpaint(IMAGE, MASK, model, **RUN).image, WANTED[name])
    with torch.inference_mode():
        model.double().float()
        assert next(model.parameters()).is_inference()
    assert torch.equal(multiscale_inpaint(IMAGE, MASK, model, **RUN).image, WANTED[name])


def test_gradients_pass_where_they_passed():
    image = IMAGE.clone().requires_grad_()
    downscale(image).sum().backward()
    assert image.grad.abs().min() > 0
    with torch.no_grad():
        assert not downscale(image).requires_grad
    with torch.inference_mode():
        assert not downscale(image).requires_grad


def test_threads_compute_at_once_each_within_its_own_surroundings():
    forget_what_was_made()
    names = ("multiscale_inpaint", "by name", "random_scenes", "stroke_masks", "mixed", "predict_and_refine")
    found = {}

    def work(name, around):
        with AROUND[around]():
            found[name, around] = EVERYTHING[name]()

    alone = ("no gradients", "device", "inference mode")  # each for one thread
    threads = [threading.Thread(target=work, args=(name, around)) for around in alone for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    assert all(torch.allclose(picture, WANTED[name], atol=1e-6) for (name, _), picture in found.items())


def test_a_warning_names_the_line_that_called():
    with pytest.warns(NothingToRefine) as caught:
        multiscale_inpaint(IMAGE, MASK, MODELS[0], smallest_scale=64, progress=False)
    assert caught[0].filename == __file__
