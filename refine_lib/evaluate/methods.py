"""The ways to fill a hole that are compared. Each is a small class, with one line in ``WAYS`` that says what names it."""

import ast
import functools
import importlib.util
import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from refine_lib.checks import check_smallest_scale
from refine_lib.evaluate.pictures import Picture, stamp_of
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.masks import paste
from refine_lib.networks import load_network, settings_for
from refine_lib.networks.latent_diffusion import check_noise
from refine_lib.networks.registry import why_not_split
from refine_lib.networks.split import SplitNetwork
from refine_lib.photos.pixels import load_photo, to_image, to_pixels
from refine_lib.pyramid import build_pyramid, resize
from refine_lib.refine import NothingToRefine, check_settings, multiscale_inpaint

# The settings of a refined method with their defaults: all of multiscale_inpaint but pictures and what is shown.
REFINEMENT = {
    name: parameter.default
    for name, parameter in inspect.signature(multiscale_inpaint).parameters.items()
    if name not in ("image", "mask", "model", "callback", "progress", "guide")
}
IN_A_CAPTION = ("smallest_scale", "lr", "n_iters", "erosion")  # what the course turns
OF_NOISE = ("n_steps", "seed")  # settings of a network that fills a hole from noise
OPENCV_RADIUS_PX = 3  # around a pixel that OpenCV's fills look at, in a picture of 512 px


@dataclass(frozen=True)
class Case:
    """A picture whose hole is to be filled: what is in the hole of ``image`` was erased."""

    picture: Picture
    kind: str
    image: torch.Tensor  # (1, 3, H, W)
    mask: torch.Tensor  # (1, 1, H, W)


@dataclass(frozen=True)
class Method:
    """A way to fill holes. The evaluation takes any object with ``name``, ``timed``, ``ready``, ``stamp`` and ``fill``.

    Attributes:
        name: what the table calls it, which is also what names it on the command line.
        timed: whether its seconds mean something.
        module: the module that it needs, of a package of the extra ``[metrics]``; or empty.
    """

    name: str
    timed: ClassVar[bool] = True
    module: ClassVar[str] = ""

    @classmethod
    def read(cls, words: str, *parts: str) -> "Method":
        """The method of the words that name it; ``parts`` are those in the places of the large letters in ``WAYS``."""
        return cls(words, *parts)

    def ready(self, device: str | None = None) -> None:
        """Loads what the method needs, before any time is taken. Raises where that is missing."""
        if self.module and importlib.util.find_spec(self.module) is None:
            raise ModuleNotFoundError(f"{self.name} needs the module {self.module}: pip install 'refine_lib[metrics]'")

    def stamp(self, picture: Picture, kind: str) -> str:
        """Words that change when what the method would give for a picture changes."""
        return ""

    def fill(self, case: Case, device: str | None = None) -> tuple[torch.Tensor, str]:
        """The filled picture (1, 3, H, W), and a note on it or an empty one. What is known of the picture is kept."""
        filled, note = self._fill(case, device)
        return paste(filled.to(case.image), case.image, case.mask), note

    def _fill(self, case: Case, device: str | None) -> tuple[torch.Tensor, str]:
        """What a way adds to ``fill``: outside the hole anything may be. Here, for the truth, the picture stays as it is."""
        return case.image, ""


@dataclass(frozen=True)
class Plain(Method):
    """One pass of a network.

    Attributes:
        network: a name or path for ``load_network``, or a split network.
        settings: of those that the class ``takes``; of a network that cannot be refined those in ``OF_NOISE``. All others are
            as ``settings_for`` and the network itself say.
    """

    network: str | SplitNetwork
    settings: dict[str, Any] = field(default_factory=dict)
    takes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, words, *parts):
        network, *given = parts[0].split(":")
        settings: dict[str, Any] = dict(_setting(one) for one in given)
        takes = cls.takes + OF_NOISE * bool(why_not_split(network))
        for name in settings:
            if name not in takes:
                raise ValueError(f"it comes with {name}; expected {', '.join(takes) or 'no setting'}")
        checked: dict[str, Any] = REFINEMENT | settings_for(network) | settings
        check_noise(**{name: checked.pop(name) for name in OF_NOISE if name in checked})
        check_smallest_scale(checked.pop("smallest_scale"))
        check_settings(**checked, callback=None)
        return cls(words, network, settings)

    def ready(self, device=None):
        self._model(device)

    def stamp(self, picture, kind):
        """Changes with a file of weights; a network that was handed over is known by its name alone."""
        return stamp_of(self.network) if isinstance(self.network, str) else ""

    def _fill(self, case, device):
        model = self._model(device)
        where = next(model.parameters()).device
        return self._run(model, case.image.to(where), case.mask.to(where), settings_for(self.network) | self.settings)

    def _model(self, device):
        return _loaded(self.network, device) if isinstance(self.network, str) else self.network

    @torch.no_grad()
    def _run(self, model, image, mask, settings) -> tuple[torch.Tensor, str]:
        return model(image, mask, **_of_noise(settings)), model.note


class Enlarged(Plain):
    """The smallest picture of the pyramid, filled by a network and enlarged."""

    takes = ("smallest_scale",)

    @torch.no_grad()
    def _run(self, model, image, mask, settings):
        small = build_pyramid(image, mask, settings["smallest_scale"])[0]
        filled = paste(model(small.image, small.mask, **_of_noise(settings)), small.image, small.mask)
        return resize(filled, image.shape[-2:]), model.note


class Refined(Plain):
    """The paper's refinement of a network."""

    takes = tuple(REFINEMENT)

    @classmethod
    def read(cls, words, *parts):
        if why := why_not_split(parts[0].partition(":")[0]):
            raise ValueError(why)
        return super().read(words, *parts)

    def ready(self, device=None):
        if why := why_not_split(self._model(device)):
            raise ValueError(f"method is {self.name!r}: {why}")

    def _run(self, model, image, mask, settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (NothingToRefine, ShortOfMemory))  # it becomes the row's note
            result = multiscale_inpaint(image, mask, model, progress=False, **settings)
        if result.stopped:  # by the keyboard: this is no result
            raise KeyboardInterrupt
        return result.image, " ".join(filter(None, (result.message, result.note)))


class Biharmonic(Method):
    """The biharmonic equation, by scikit-image."""

    module = "skimage"

    def _fill(self, case, device):
        return biharmonic(case.image, case.mask), ""


class Telea(Method):
    """The method of Telea (2004), by OpenCV."""

    module = "cv2"
    flag = "INPAINT_TELEA"

    def _fill(self, case, device):
        import cv2

        radius = max(1, round(OPENCV_RADIUS_PX * min(case.mask.shape[-2:]) / 512))
        return to_image(cv2.inpaint(to_pixels(case.image), to_pixels(case.mask), radius, getattr(cv2, self.flag))), ""


class NavierStokes(Telea):
    """The method of Bertalmio et al. (2001), which follows the Navier-Stokes equations, by OpenCV."""

    flag = "INPAINT_NS"


@dataclass(frozen=True)
class Folder(Method):
    """Results made elsewhere: ``path/KIND/NAME.png``, of the pictures and holes that ``--inputs`` wrote."""

    label: str
    path: str
    timed = False  # to read a picture says nothing about the method

    def ready(self, device=None):
        if not Path(self.path).is_dir():
            raise FileNotFoundError(f"method is {self.name!r}, but {self.path!r} is no folder; expected one with KIND/NAME.png")

    def stamp(self, picture, kind):
        return stamp_of(self._file(picture, kind))

    def _fill(self, case, device):
        path = self._file(case.picture, case.kind)
        filled = load_photo(path)
        if filled.shape != case.image.shape:
            given, wanted = ("{1} px wide and {0} px high".format(*t.shape[-2:]) for t in (filled, case.image))
            raise ValueError(f"{path} is {given}; expected {wanted}")
        return filled, ""

    def _file(self, picture, kind):
        return Path(self.path) / kind / picture.file_name


TRUTH = Method("truth")
WAYS: dict[str, type[Method]] = {  # from the words that name a method to its class
    "plain:NETWORK": Plain,
    "refined:NETWORK": Refined,
    "enlarged:NETWORK": Enlarged,
    "biharmonic": Biharmonic,
    "telea": Telea,
    "navier-stokes": NavierStokes,
    "folder:NAME:PATH": Folder,
}
SETTINGS = "refined:NETWORK:n_iters=5:optimizer=polyak, plain:latent-diffusion:n_steps=10:seed=1"
METHOD_WORDS = f"{', '.join(WAYS)}; with settings as in {SETTINGS}"


def parse_method(words: str) -> Method:
    """The method that words name, as in ``WAYS``: ``"refined:mini-lama:n_iters=5"`` and so on.

    Raises:
        ValueError: where there is no such method, or a setting of it is wrong.
    """
    for form, kind in WAYS.items():
        way, *wanted = form.split(":")
        given, *parts = words.split(":", len(wanted))
        if given == way and len(parts) == len(wanted) and all(parts):
            try:
                return kind.read(words, *parts)
            except (TypeError, ValueError) as error:
                raise ValueError(f"method is {words!r}: {error}") from error
    raise ValueError(f"method is {words!r}; expected {METHOD_WORDS}")


def refined_with(methods: Sequence[str]) -> str:
    """The settings of the refined ones among methods, in words for a caption; empty where none is refined."""
    by_settings: dict[str, list[str]] = {}
    for method in map(parse_method, methods):
        if isinstance(method, Refined):
            settings = REFINEMENT | settings_for(method.network) | method.settings
            told = ", ".join(f"{name} {settings[name]}" for name in IN_A_CAPTION)
            by_settings.setdefault(told, []).append(method.name)
    if len(by_settings) == 1:
        return f"refined with {next(iter(by_settings))}"
    return "; ".join(f"{', '.join(names)} with {told}" for told, names in by_settings.items())


def _of_noise(settings):
    return {name: settings[name] for name in OF_NOISE if name in settings}


def _setting(words):
    name, _, value = words.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):  # a word
        return name, value


@functools.cache
def _loaded(network, device):
    return load_network(network, device)


forget_networks = _loaded.cache_clear  # frees the networks that this process has loaded


def biharmonic(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Fills the hole with the smooth surface that continues its edge: the classical fill (scikit-image's).

    Shape: (B, 3, H, W) in [0, 1] and (B, 1, H, W), 1 = hole -> (B, 3, H, W).
    """
    from skimage.restoration import inpaint_biharmonic  # in the extra [metrics]

    pictures = [
        inpaint_biharmonic(one.permute(1, 2, 0).numpy(), hole[0].numpy() > 0, split_into_regions=True, channel_axis=-1)
        for one, hole in zip(image.cpu(), mask.cpu(), strict=True)
    ]
    return torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures]).clamp(0, 1).to(image)
