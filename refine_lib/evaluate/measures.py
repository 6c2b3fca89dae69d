"""The measures of Table 1. Each is a function with one line in ``REGISTERED``; rows, tables and texts read that line.

FID and LPIPS have these names only with the networks that define them. Where those networks cannot be had, the embedded
feature network takes their place, and what is measured with it has other names. Torchmetrics computes the measures.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torchmetrics.image import fid, kid, lpip

from refine_lib.checks import check_choice
from refine_lib.device import plainly
from refine_lib.evaluate.scene_features import WIDTHS, SceneFeatures, load_scene_features
from refine_lib.metrics import fraction, l1, ssim
from refine_lib.photos.pixels import to_pixels

PERCEPTUAL = "vgg"  # LPIPS's network in LaMa's evaluation, which the paper's follows
N_SUBSETS = 100  # of the pictures, over which the kernel distance is averaged
ROUNDING_ERROR = 1 / (12 * 255**2)  # the mean squared error of rounding to steps of 1/255
NOTES = {  # on the feature networks, by their names
    "inception": "FID and KID: Inception v3 (torch-fidelity's inception-v3-compat, 2048 features), pictures brought to 299 px"
    f" bilinearly without antialias (as TensorFlow 1 does); LPIPS: {PERCEPTUAL}, version 0.1; both by torchmetrics",
    "scenes": "(scenes): with a small feature network that was trained on drawn scenes, in place of Inception and VGG: these"
    " are neither FID nor KID nor LPIPS, and cannot be compared with them",
}
FEATURES = ("auto", *NOTES)
N_FEATURES = {"inception": 2048, "scenes": WIDTHS[-1]}


class Inception:
    """The networks of FID and LPIPS, by the paper's conventions; called as ``SceneFeatures`` is."""

    def __init__(self, device):
        self.inception = fid.FrechetInceptionDistance(feature=2048, antialias=False).inception.to(device)
        self.lpips = lpip.LearnedPerceptualImagePatchSimilarity(net_type=PERCEPTUAL, normalize=True).to(device)

    def __call__(self, image):
        """The features of a picture (1, 3, H, W) in [0, 1]: (1, 2048)."""
        # Rounded to bytes as it would be saved. Torchmetrics itself cuts off, by which k / 255 may become k - 1.
        pixels = torch.from_numpy(to_pixels(image)).permute(2, 0, 1)[None].to(image.device)
        return self.inception(pixels)

    def distance(self, filled, truth):
        """LPIPS of two pictures (1, 3, H, W) in [0, 1]: ()."""
        value = self.lpips(filled, truth)
        self.lpips.reset()  # it adds up what it sees
        return value


FeatureNetworks = Inception | SceneFeatures


def feature_networks(features: str, device: torch.device) -> FeatureNetworks:
    """The feature networks by their name, ``"inception"`` or ``"scenes"``, on a device."""
    return Inception(device) if features == "inception" else load_scene_features(device)


def choose_features(features: str, device: torch.device | str = "cpu") -> tuple[str, str]:
    """Which feature networks are used, and why not the official ones where they are not.

    Args:
        features: one of ``FEATURES``; ``"auto"`` takes the official networks where they can be had, else the embedded one.
        device: where the official networks are tried.

    Raises:
        ModuleNotFoundError: where what was asked for cannot be had.
        ValueError: where ``features`` is none of ``FEATURES``.
    """
    check_choice(features, "features", FEATURES)
    if features == "scenes":
        return features, ""
    try:
        feature_networks("inception", torch.device(device))
        return "inception", ""
    except Exception as error:  # a missing module, no network to fetch weights from, a torchvision of another torch, ...
        why = f"the networks of FID and LPIPS cannot be loaded ({type(error).__name__}: {error})"
    if features == "inception":
        raise ModuleNotFoundError(f"features is 'inception', but {why}; expected the extra [fid] installed, or 'scenes'")
    return "scenes", why


@plainly
def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """The Fréchet distance of two sets of features, each taken as a Gaussian: FID where the features are Inception's.

    Shape: (N, D) and (M, D), N and M at least 2.
    """
    metric = fid.FrechetInceptionDistance(feature=_AsTheyAre(features.shape[1])).set_dtype(torch.float64)
    return _of_sets(metric, features, others).item()


@plainly
def kernel_distance(features: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The kernel distance of two sets of features, and its standard deviation over subsets: KID where they are Inception's.

    A subset has half the pictures, at most 1000. Of sets that have no picture in common the distance is right on average for
    few pictures too, unlike the Fréchet distance. Filled pictures beside their own truths are not such sets: there a perfect
    fill is a little below 0.

    Shape: (N, D) and (M, D), N and M at least 2.
    """
    size = min(1000, max(2, min(len(features), len(others)) // 2))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features
        torch.manual_seed(0)
        metric = kid.KernelInceptionDistance(feature=_AsTheyAre(features.shape[1]), subsets=N_SUBSETS, subset_size=size)
        mean, deviation = _of_sets(metric, features, others)
    return mean.item(), deviation.item()


class _AsTheyAre(torch.nn.Identity):
    """Takes a network's place, because the features of a picture are computed once, when it is filled."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features  # by this name torchmetrics asks


def _of_sets(metric, features, others):
    for given, real in ((others, True), (features, False)):
        metric.update(torch.from_numpy(np.asarray(given, np.float64)), real=real)
    return metric.compute()


# Of single pictures: (networks, filled, truth, mask) -> a number. Pictures (1, 3, H, W) in [0, 1], mask (1, 1, H, W), 1 = hole.


def _perceptual(networks, filled, truth, mask):
    return networks.distance(filled, truth)


def _l1(networks, filled, truth, mask):
    return fraction(l1(filled, truth, mask))


def _psnr(networks, filled, truth, mask):
    """In dB, at most 58.9: a picture in steps of 1/255 is not known any better, and a mean over pictures stays finite."""
    squared_error = (filled - truth)[mask.expand_as(truth) > 0].square().mean().item()
    return -10 * math.log10(max(squared_error, ROUNDING_ERROR))


def _ssim(networks, filled, truth, mask):
    return fraction(ssim(filled, truth, mask))


# Of sets of pictures: (rows of the filled pictures, rows of their truths) -> a number and its spread.


def _frechet(rows, truths):
    return frechet_distance(_features(rows), _features(truths)), math.nan


def _kernel(rows, truths):
    return kernel_distance(_features(rows), _features(truths))


def _median_seconds(rows, truths):
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    return float(np.median(seconds)) if seconds else math.nan, math.nan


def _features(rows):
    return np.stack([row["features"] for row in rows])


@dataclass(frozen=True)
class Measure:
    """A measure of Table 1.

    Attributes:
        name: its column in the rows, and its key in ``Table.values``.
        title: what the table calls it.
        per: ``"picture"`` where each filled picture has a number: the table then has means with intervals, and methods are
            compared in pairs. ``"set"`` where only a set of pictures has one.
        of: the function, with the arguments that stand above those of its kind.
        better: which numbers are.
        digits: after the decimal point.
        substitute: what the table calls it where it is measured with the embedded feature network; empty where it needs no
            feature network.
        at_least: how many pictures it needs.
    """

    name: str
    title: str
    per: Literal["picture", "set"]
    of: Callable[..., Any]
    better: Literal["lower", "higher"]
    digits: int
    substitute: str = ""
    at_least: int = 1

    def called(self, features: str) -> str:
        """Its title with the feature networks of a name, ``"inception"`` or ``"scenes"``."""
        return self.substitute if self.substitute and features == "scenes" else self.title


REGISTERED = (  # in the order in which they are shown
    Measure("frechet", "FID", "set", _frechet, "lower", 3, substitute="Fréchet (scenes)", at_least=2),
    Measure("kernel", "KID", "set", _kernel, "lower", 4, substitute="kernel (scenes)", at_least=2),
    Measure("perceptual", "LPIPS", "picture", _perceptual, "lower", 4, substitute="perceptual (scenes)"),
    Measure("l1", "L1", "picture", _l1, "lower", 4),
    Measure("psnr", "PSNR (dB)", "picture", _psnr, "higher", 2),
    Measure("ssim", "SSIM", "picture", _ssim, "higher", 3),
    Measure("seconds", "s", "set", _median_seconds, "lower", 2),
)
TABLE_1 = {measure.name: measure for measure in REGISTERED}
PER_PICTURE = {name: measure for name, measure in TABLE_1.items() if measure.per == "picture"}


@torch.no_grad()
def measures_of(networks: FeatureNetworks, filled: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
    """The measures of one filled picture by their names, and ``features``, a float32 array.

    L1, PSNR and SSIM are inside the hole. Feature networks look at whole pictures.

    Shape: (1, 3, H, W) in [0, 1] twice, mask (1, 1, H, W), 1 = hole.
    """
    found = {name: float(measure.of(networks, filled, truth, mask)) for name, measure in PER_PICTURE.items()}
    return found | {"features": features_of(networks, filled)}


@torch.no_grad()
def features_of(networks: FeatureNetworks, image: torch.Tensor) -> np.ndarray:
    """What the feature network sees in a whole picture (1, 3, H, W) in [0, 1]: float32 (D,)."""
    return networks(image)[0].float().cpu().numpy()
