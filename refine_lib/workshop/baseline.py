"""The authors' own refinement, run from a checkout of their repository that the user has, to be compared with."""

import importlib
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F

from refine_lib.masks import erode

PACKAGE = "saicinpainting"
ROOMS = ("evaluation", "training", "training.modules")  # taken without their __init__, which import all of the training
NOT_NEEDED = ("cv2", "easydict", "pytorch_lightning", "torchvision", "yaml")


class Baseline:
    """The refinement of a checkout of ``advimman/lama``, with the weights of one of our LaMa generators.

    Their code asks for CUDA devices by number; here it computes on the device of the weights. Packages that it imports and does
    not use in a refinement need not be installed.

    Args:
        path: of the checkout.
        generator: a ``LamaGenerator``; its weights are copied.

    Raises:
        FileNotFoundError: where there is no such code at the path.
    """

    def __init__(self, path, generator):
        if not (Path(path) / PACKAGE / "evaluation" / "refinement.py").is_file():
            wanted = f"expected a checkout of advimman/lama, with {PACKAGE}/evaluation/refinement.py"
            raise FileNotFoundError(f"path is {str(path)!r}; {wanted}")
        with _importable(Path(path)):
            self.refinement = importlib.import_module(f"{PACKAGE}.evaluation.refinement")
            ffc = importlib.import_module(f"{PACKAGE}.training.modules.ffc")
        self.device = next(generator.parameters()).device
        self.refinement.torch = _OneDevice(self.device)
        self.refinement.tqdm = _Silent
        blocks = dict(ratio_gin=generator.ratio, ratio_gout=generator.ratio, enable_lfu=False)
        plain = dict(ratio_gin=0, ratio_gout=0, enable_lfu=False)
        theirs = ffc.FFCResNetGenerator(
            4, 3, generator.ngf, 3, generator.n_blocks,
            init_conv_kwargs=plain, downsample_conv_kwargs=plain, resnet_conv_kwargs=blocks, add_out_act="sigmoid",
        )  # fmt: skip
        theirs.load_state_dict(generator.state_dict())
        theirs = theirs.to(self.device).eval().requires_grad_(False)
        self.inpainter = types.SimpleNamespace(training=False, add_noise_kwargs=None, concat_mask=True, generator=theirs)

    def __call__(self, image, mask, smallest_scale=512, n_iters=15, lr=0.002, max_levels=3):
        """Their refined picture, (1, 3, H, W): ``n_iters - 1`` updates a level, with their loss and an erosion of 15 px."""
        height, width = image.shape[-2:]
        down, right = -height % 8, -width % 8
        image, mask = (F.pad(t.cpu(), (0, right, 0, down), mode="reflect") for t in (image, mask))
        batch = {"image": image, "mask": mask, "unpad_to_size": [torch.tensor([height]), torch.tensor([width])]}
        return self.refinement.refine_predict(
            batch, self.inpainter, "0,", 8, n_iters, lr, smallest_scale, max_levels, height * width
        )


class _OneDevice:
    """Stands for torch in their module: every device that they name is the one that there is."""

    def __init__(self, device):
        self._device = device

    def device(self, _):
        return self._device

    def __getattr__(self, name):
        return getattr(torch, name)


class _Silent:
    """Stands for their progress bar."""

    def __init__(self, iterable, **_):
        self.iterable = iterable

    def __iter__(self):
        return iter(self.iterable)

    def set_description(self, _):
        pass


@contextmanager
def _importable(path):
    """Makes their modules importable one by one, and stands in for packages that are not installed."""
    added = {}
    for name in ("", *ROOMS):
        module = types.ModuleType(f"{PACKAGE}.{name}".rstrip("."))
        module.__path__ = [str(path / PACKAGE / name.replace(".", "/"))]
        added[module.__name__] = module
    for name in NOT_NEEDED:
        try:
            importlib.import_module(name)
        except Exception:  # not there, or not fit for this torch
            added[name] = _Absent(name)
    before = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


class _Absent(types.ModuleType):
    """A package that is not installed: it has every name, and nothing behind them but OpenCV's round kernel."""

    MORPH_ELLIPSE = 2

    @staticmethod
    def getStructuringElement(_, size):
        point = torch.zeros(1, 1, 2 * size[1] + 1, 2 * size[0] + 1)
        point[..., size[1], size[0]] = 1
        disc = 1 - erode(1 - point, size[0])
        y, x = size[1] // 2, size[0] // 2
        return disc[0, 0, size[1] - y : size[1] + y + 1, size[0] - x : size[0] + x + 1].numpy()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
