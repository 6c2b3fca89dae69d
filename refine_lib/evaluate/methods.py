"""The ways to fill a hole that are compared, each by the words that name it on the command line.

A method is any object with ``name``; ``timed``, whether its seconds mean something; ``ready(device)``, which loads what it
needs and raises where it is missing; ``stamp(picture, kind)``, words that change when what it would give changes; and
``fill(case, device)``, which returns the filled picture (1, 3, H, W) and a note on it, or an empty one.
"""

import ast
import functools
import importlib.util
import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from refine_lib.checks import check_smallest_scale
from refine_lib.evaluate.pictures import stamp_of
from refine_lib.fast.plans import ShortOfMemory
from refine_lib.masks import paste
from refine_lib.networks import load_network, settings_for
from refine_lib.photos.pixels import load_photo, to_image, to_pixels
from refine_lib.pyramid import build_pyramid, resize
from refine_lib.refine import NothingToRefine, check_settings, multiscale_inpaint

SETTINGS = ("smallest_scale", "n_iters", "lr", "erosion", "loss", "optimizer", "early_stop", "speed")  # of refined:NETWORK
DEFAULTS = {name: inspect.signature(multiscale_inpaint).parameters[name].default for name in SETTINGS}
EXPECTED = (
    "expected plain:NETWORK, refined:NETWORK, refined:NETWORK:n_iters=5:optimizer=polyak, enlarged:NETWORK, biharmonic, telea,"
    " navier-stokes, or folder:NAME:PATH of results made elsewhere"
)
RADIUS = 3  # px around a pixel that OpenCV's fills look at, at 512 px


@dataclass(frozen=True)
class Case:
    """A picture whose hole is to be filled: what is in the hole of ``image`` was erased."""

    picture: object
    kind: str
    image: torch.Tensor  # (1, 3, H, W)
    mask: torch.Tensor  # (1, 1, H, W)


@dataclass(frozen=True)
class Network:
    """A split network: its plain pass, its smallest picture enlarged, or refined.

    Attributes:
        way: ``"plain"``, ``"enlarged"`` or ``"refined"``.
        network: a name or path for ``load_network``; or a split network, which then needs a label.
        settings: pairs of a setting of ``multiscale_inpaint`` and its value; what is not said is as ``settings_for`` says.
        label: what a network that has no name is called.
    """

    way: str
    network: object
    settings: tuple = ()
    label: str = ""
    timed = True

    @property
    def name(self):
        return ":".join([self.way, self.label or str(self.network), *(f"{key}={value}" for key, value in self.settings)])

    def fill(self, case, device=None):
        model, settings = _loaded(self.network, device), settings_for(self.network) | dict(self.settings)
        where = next(model.parameters()).device
        image, mask = case.image.to(where), case.mask.to(where)
        if self.way == "refined":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", (NothingToRefine, ShortOfMemory))  # it becomes the row's note
                result = multiscale_inpaint(image, mask, model, progress=False, **settings)
            if result.stopped:  # by the keyboard: this is no result
                raise KeyboardInterrupt
            return result.image, " ".join(filter(None, (result.message, result.note)))
        with torch.no_grad():
            if self.way == "enlarged":
                small = build_pyramid(image, mask, settings["smallest_scale"])[0]
                filled = resize(paste(model(small.image, small.mask), small.image, small.mask), image.shape[-2:])
            else:
                filled = model(image, mask)
            return paste(filled, image, mask), ""

    def ready(self, device=None):
        """Loads the network, and fetches it where it must be, before any time is taken."""
        _loaded(self.network, device)

    def stamp(self, picture, kind):
        """Changes with a file of weights; a network that was handed over is known by its label alone."""
        return stamp_of(self.network) if isinstance(self.network, str) else ""


@dataclass(frozen=True)
class Classical:
    """A fill without a network: the biharmonic equation (scikit-image), Telea's or the Navier-Stokes fill (OpenCV)."""

    name: str
    timed = True

    def fill(self, case, device=None):
        if self.name == "biharmonic":
            return paste(biharmonic(case.image, case.mask), case.image, case.mask), ""
        cv2 = _opencv()
        flag = cv2.INPAINT_TELEA if self.name == "telea" else cv2.INPAINT_NS
        radius = max(1, round(RADIUS * min(case.mask.shape[-2:]) / 512))
        filled = cv2.inpaint(to_pixels(case.image), to_pixels(case.mask), radius, flag)
        return paste(to_image(filled), case.image, case.mask), ""

    def ready(self, device=None):
        if self.name != "biharmonic":
            _opencv()
        elif importlib.util.find_spec("skimage") is None:
            raise ModuleNotFoundError("biharmonic needs scikit-image: pip install 'refine_lib[metrics]'")

    def stamp(self, picture, kind):
        return ""


@dataclass(frozen=True)
class Folder:
    """Results made elsewhere: ``path/KIND/NAME.png``, of the pictures and holes that ``--inputs`` wrote."""

    label: str
    path: str
    timed = False  # to read a picture says nothing about the method

    @property
    def name(self):
        return f"folder:{self.label}:{self.path}"

    def fill(self, case, device=None):
        path = self._file(case.picture, case.kind)
        filled = load_photo(path)
        if filled.shape != case.image.shape:
            given, wanted = ("{1} px wide and {0} px high".format(*t.shape[-2:]) for t in (filled, case.image))
            raise ValueError(f"{path} is {given}; expected {wanted}")
        return paste(filled, case.image, case.mask), ""

    def stamp(self, picture, kind):
        return stamp_of(self._file(picture, kind))

    def _file(self, picture, kind):
        return Path(self.path) / kind / picture.file_name

    def ready(self, device=None):
        if not Path(self.path).is_dir():
            raise FileNotFoundError(f"method is {self.name!r}, but {self.path!r} is no folder; expected one with KIND/NAME.png")


def parse_method(words):
    """The method that words name: ``"refined:mini-lama:n_iters=5"`` and so on.

    Raises:
        ValueError: where there is no such method, or a setting of it is wrong.
    """
    way, _, rest = words.partition(":")
    if words in ("biharmonic", "telea", "navier-stokes"):
        return Classical(words)
    if way == "folder" and rest.count(":") >= 1:
        label, path = rest.split(":", 1)
        if label and path:
            return Folder(label, path)
    if way in ("plain", "enlarged", "refined") and rest:
        network, *settings = rest.split(":")
        settings = tuple(_setting(words, setting) for setting in settings)
        allowed = SETTINGS if way == "refined" else SETTINGS[:1] if way == "enlarged" else ()
        for key, _ in settings:
            if key not in allowed:
                raise ValueError(f"method is {words!r}, with {key}; expected {', '.join(allowed) or 'no setting'}")
        if network:
            _check(words, settings_for(network) | dict(settings))
            return Network(way, network, settings)
    raise ValueError(f"method is {words!r}; {EXPECTED}")


def _setting(words, setting):
    key, _, value = setting.partition("=")
    if not value:
        raise ValueError(f"method is {words!r}, with {setting!r}; expected a setting as in n_iters=5")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):  # a word
        return key, value


def _check(words, settings):
    settings = DEFAULTS | settings
    try:
        check_smallest_scale(settings.pop("smallest_scale"))
        check_settings(**settings, callback=None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"method is {words!r}: {error}") from error


def _loaded(network, device):
    return _from_file(network, device) if isinstance(network, str) else network


@functools.cache
def _from_file(network, device):
    return load_network(network, device)


def forget_networks():
    """Frees the networks that this process has loaded."""
    _from_file.cache_clear()


def _opencv():
    try:
        import cv2  # with the extra [metrics]
    except ImportError as error:
        raise ModuleNotFoundError("telea and navier-stokes need OpenCV: pip install 'refine_lib[metrics]'") from error
    return cv2


def biharmonic(image, mask):
    """Fills the hole with the smooth surface that continues its edge: the classical fill (scikit-image's).

    Shape: (B, 3, H, W) in [0, 1] and (B, 1, H, W), 1 = hole -> (B, 3, H, W).
    """
    from skimage.restoration import inpaint_biharmonic  # with the notebooks' extras: the library does without it

    pictures = [
        inpaint_biharmonic(one.permute(1, 2, 0).numpy(), hole[0].numpy() > 0, split_into_regions=True, channel_axis=-1)
        for one, hole in zip(image.cpu(), mask.cpu(), strict=True)
    ]
    return torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures]).clamp(0, 1).to(image)
