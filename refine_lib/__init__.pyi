from .masks import erode as erode
from .networks import load_network as load_network
from .networks.aotgan import AOTGenerator as AOTGenerator
from .networks.featuremap import Featuremap as Featuremap
from .networks.lama import LamaGenerator as LamaGenerator
from .networks.split import SplitNetwork as SplitNetwork
from .networks.split import split_network as split_network
from .optimizers import PRESETS as PRESETS
from .photos.inpaint import InpaintedPhoto as InpaintedPhoto
from .photos.inpaint import inpaint_photo as inpaint_photo
from .pyramid import Level as Level
from .pyramid import Pyramid as Pyramid
from .pyramid import build_pyramid as build_pyramid
from .pyramid import downscale as downscale
from .pyramid import downscale_mask as downscale_mask
from .refine import NothingToRefine as NothingToRefine
from .refine import multiscale_inpaint as multiscale_inpaint
from .refine import predict_and_refine as predict_and_refine
from .result import Result as Result
from .result import Step as Step
from .scenes import Scenes as Scenes
from .scenes import random_scenes as random_scenes
from .scenes.brushes import brush_mask as brush_mask
from .scenes.strokes import stroke_masks as stroke_masks

__version__: str
