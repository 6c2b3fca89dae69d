"""Feature refinement for high-resolution inpainting, at test time, for any network."""

from refine_lib.masks import erode
from refine_lib.networks import load_network
from refine_lib.networks.aotgan import AOTGenerator
from refine_lib.networks.featuremap import Featuremap
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.split import SplitNetwork, split_network
from refine_lib.photos.inpaint import InpaintedPhoto, inpaint_photo
from refine_lib.pyramid import Level, Pyramid, build_pyramid, downscale, downscale_mask
from refine_lib.refine import NothingToRefine, multiscale_inpaint, predict_and_refine
from refine_lib.result import Result, Step
from refine_lib.scenes import Scenes, random_scenes
from refine_lib.scenes.brushes import brush_mask
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.version import __version__

__all__ = [
    "AOTGenerator",
    "Featuremap",
    "InpaintedPhoto",
    "LamaGenerator",
    "Level",
    "NothingToRefine",
    "Pyramid",
    "Result",
    "Scenes",
    "SplitNetwork",
    "Step",
    "__version__",
    "brush_mask",
    "build_pyramid",
    "downscale",
    "downscale_mask",
    "erode",
    "inpaint_photo",
    "load_network",
    "multiscale_inpaint",
    "predict_and_refine",
    "random_scenes",
    "split_network",
    "stroke_masks",
]
