"""How well a hole is filled: feature networks and measures, from torchmetrics.

FID and LPIPS are what they are called only with the networks that they are made of. Where those cannot be had, the embedded
feature network stands in, and what is measured with it has other names.
"""

import importlib.util
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from refine_lib.evaluate.scene_features import load_scene_features
from refine_lib.loss import bounding_box
from refine_lib.photos.pixels import to_pixels

FEATURES = ("auto", "inception", "scenes")
NEEDED = ("torchvision", "torch_fidelity")  # for the official networks, beside their weights
PERCEPTUAL = "vgg"  # LPIPS's network in LaMa's evaluation, which the paper's follows
N_SUBSETS = 100  # of the pictures, over which the kernel distance is averaged
SSIM_REACH = 11  # px, beyond which SSIM's window sees nothing of a pixel
BEST_PSNR = 10 * math.log10(12 * 255**2)  # dB; rounding to steps of 1/255 alone is wrong by (1/255)^2 / 12, squared


@dataclass(frozen=True)
class Names:
    """What the measures that need features are called."""

    frechet: str
    kernel: str
    perceptual: str
    note: str


NAMES = {
    "inception": Names(
        "FID",
        "KID",
        "LPIPS",
        "FID and KID: Inception v3 (torch-fidelity's inception-v3-compat, 2048 features), pictures brought to 299 px bilinearly"
        f" without antialias (as TensorFlow 1 does); LPIPS: {PERCEPTUAL}, version 0.1; both by torchmetrics",
    ),
    "scenes": Names(
        "Fréchet (scenes)",
        "kernel (scenes)",
        "perceptual (scenes)",
        "(scenes): with a small feature network that was trained on drawn scenes, in place of Inception and VGG: these are"
        " neither FID nor KID nor LPIPS, and cannot be compared with them",
    ),
}


class Inception:
    """The networks of FID and LPIPS, by the paper's conventions."""

    def __init__(self, device):
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self.device = device
        self.inception = FrechetInceptionDistance(feature=2048, antialias=False).inception.to(device)
        self.lpips = LearnedPerceptualImagePatchSimilarity(net_type=PERCEPTUAL, normalize=True).to(device)

    def seen(self, image):
        """What a picture's features and distances are made from."""
        return image

    def features(self, image):
        # Rounded to bytes as it would be saved; torchmetrics itself cuts off, by which k / 255 may become k - 1.
        pixels = torch.from_numpy(to_pixels(image)).permute(2, 0, 1)[None].to(self.device)
        return self.inception(pixels)[0]

    def distance(self, filled, truth):
        value = self.lpips(filled, truth)
        self.lpips.reset()  # it adds up what it sees
        return value


class Substitute:
    """The embedded feature network in their place."""

    def __init__(self, device):
        self.network = load_scene_features(device)

    def seen(self, image):
        return self.network.maps(image)

    def features(self, maps):
        return self.network.features_of_maps(maps)[0]

    def distance(self, filled, truth):
        return self.network.distance_of_maps(filled, truth)[0]


def feature_networks(features, device):
    """The feature networks by their name, one of ``FEATURES``."""
    return {"inception": Inception, "scenes": Substitute}[features](device)


def choose_features(features, device="cpu"):
    """Which feature networks are used, and why not the official ones where they are not: a pair of words.

    Args:
        features: ``"auto"`` takes the official ones where they can be had, else the embedded one.

    Raises:
        ModuleNotFoundError: where what was asked for cannot be had.
    """
    if features not in FEATURES:
        raise ValueError(f"features is {features!r}; expected one of {', '.join(map(repr, FEATURES))}")
    if features == "scenes":
        return features, ""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    why = f"{' and '.join(missing)} cannot be imported" if missing else ""
    if not missing:
        try:
            feature_networks("inception", device)
            return "inception", ""
        except Exception as error:  # no network to fetch weights from, a torchvision of another torch, ...
            why = f"the networks of FID and LPIPS cannot be loaded ({type(error).__name__}: {error})"
    if features == "inception":
        raise ModuleNotFoundError(f"features is 'inception', but {why}; expected them, or 'scenes'")
    return "scenes", why


@torch.no_grad()
def measures_of(networks, filled, truth, mask, seen_truth=None):
    """Measures of one filled picture: a dictionary of floats, and ``features``, a float32 array.

    L1, PSNR (dB) and SSIM (an 11 px Gaussian window) are inside the hole. What is seen with features is of whole pictures.
    PSNR is at most 58.9 dB: in steps of 1/255 a picture is not known any better, and a mean over pictures stays finite.

    Shape: (1, 3, H, W) in [0, 1] twice, mask (1, 1, H, W), 1 = hole. ``seen_truth`` is ``networks.seen(truth)``, where it is
    known already.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
    from torchmetrics.functional.regression import mean_absolute_error

    near = [slice(max(0, s.start - SSIM_REACH), s.stop + SSIM_REACH) for s in bounding_box(mask)]  # all that these look at
    near = [t[(..., *near)] for t in (filled, truth, mask.expand_as(truth))]
    hole = near[2] > 0
    similarity = structural_similarity_index_measure(*near[:2], data_range=1.0, return_full_image=True)[1]
    inside = near[0][hole], near[1][hole]
    seen, seen_truth = networks.seen(filled), networks.seen(truth) if seen_truth is None else seen_truth
    return {
        "l1": mean_absolute_error(*inside).item(),
        "psnr": min(peak_signal_noise_ratio(*inside, data_range=1.0).item(), BEST_PSNR),
        "ssim": similarity[hole].mean().item(),
        "perceptual": float(networks.distance(seen, seen_truth)),
        "features": _as_array(networks.features(seen)),
    }


@torch.no_grad()
def seen_in(networks, image):
    """What the feature networks make of a picture, to be compared with more than one other."""
    return networks.seen(image)


@torch.no_grad()
def features_of(networks, image):
    """What the feature network sees in a whole picture: float32 (D,)."""
    return _as_array(networks.features(networks.seen(image)))


def _as_array(features):
    return features.float().cpu().numpy()


class _AsTheyAre(torch.nn.Module):
    """Hands features on: those of a picture are computed once, when it is filled."""

    def __init__(self, n):
        super().__init__()
        self.num_features = n

    def forward(self, features):
        return features


def frechet_distance(features, others):
    """The Fréchet distance of two sets of features (N, D), (M, D), each taken as a Gaussian: FID where they are Inception's."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_AsTheyAre(features.shape[1])).set_dtype(torch.float64)
    return _compared(metric, features, others).item()


def kernel_distance(features, others, seed=0):
    """The kernel distance of two sets of features, and its standard deviation over subsets of half the pictures, at most 1000.

    Of sets that have no picture in common it is right on average for few pictures too, unlike the Fréchet distance. (Filled
    pictures beside their own truths are not such: there a perfect fill is a little below 0.)
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(1000, max(2, min(len(features), len(others)) // 2))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_AsTheyAre(features.shape[1]), subsets=N_SUBSETS, subset_size=size)
        mean, deviation = _compared(metric, features, others)
    return mean.item(), deviation.item()


def _compared(metric, features, others):
    for given, real in ((others, True), (features, False)):
        metric.update(torch.from_numpy(np.asarray(given, np.float64)), real=real)
    return metric.compute()
