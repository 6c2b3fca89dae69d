"""What an argument must be. Each check names the argument, what was given and what is wanted, before any work is done.

Numbers may be of any numeric type, of NumPy or torch too. ``as_integer`` and ``as_number`` read them into Python's own.
"""

import math
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

SMALLEST_SIDE = 16  # pixels; below, a LaMa generator's featuremap is too small to reflect its border
ROUNDING = 1e-4  # by which a resized picture may leave [0, 1]
ROUNDED_GUIDE = 0.02  # by which a guide's proportions may differ: tools round its sides, some to multiples of 8
LARGEST_SIDE = 2**16  # pixels, of what is drawn
LARGEST_SEED = 2**63 - 1  # of torch's random numbers
SPEEDS = ("auto", "exact", "mixed")
LOSSES = ("paper", "code")


def check_image_and_mask(image: torch.Tensor, mask: torch.Tensor) -> None:
    """Raises unless image is (B, 3, H, W) in [0, 1] and mask (B, 1, H, W) of 0 and 1, alike in all else."""
    check_image(image)
    _check_tensor(mask, "mask", channels=1)
    _check_alike(mask, "mask", image)
    if mask.shape[-2:] != image.shape[-2:]:
        sizes = [" x ".join(map(str, t.shape[-2:])) for t in (mask, image)]
        raise ValueError(f"mask is {sizes[0]} px and image is {sizes[1]} px; expected the same height and width")
    if mask.shape[0] != image.shape[0]:
        raise ValueError(f"mask has a batch of {mask.shape[0]} and image one of {image.shape[0]}; expected the same")
    _check_binary(mask)


def check_mask(mask: torch.Tensor) -> None:
    """Raises unless mask is a float tensor (B, 1, H, W) of 0 and 1."""
    _check_tensor(mask, "mask", channels=1, smallest=1)
    _check_binary(mask)


def _check_binary(mask):
    if not ((mask == 0) | (mask == 1)).all():
        low, high = mask.min().item(), mask.max().item()
        wanted = "expected only 0 (known) and 1 (hole). Threshold it first: mask = (mask > 0.5).float()"
        if high > 1:
            wanted = wanted.replace("mask > 0.5", "mask > 127")
        raise ValueError(f"mask has values between {low:g} and {high:g}; {wanted}")


def check_image(image: torch.Tensor, name: str = "image", smallest: int = SMALLEST_SIDE) -> None:
    """Raises unless image is a float tensor (B, 3, H, W) with values in [0, 1]."""
    low, high = _check_tensor(image, name, channels=3, smallest=smallest)
    if low < -ROUNDING or high > 1 + ROUNDING:
        hint = f". Divide an 8-bit picture by 255: {name} / 255" if high > 1.5 else ""
        raise ValueError(f"{name} has values between {low:g} and {high:g}; expected values in [0, 1]{hint}")


def check_guide(guide: torch.Tensor, image: torch.Tensor) -> None:
    """Raises unless guide is an image of the other's batch, proportions, dtype and device, and not larger."""
    check_image(guide, "guide", smallest=1)
    _check_alike(guide, "guide", image)
    if guide.shape[0] != image.shape[0]:
        raise ValueError(f"guide has a batch of {guide.shape[0]} and image one of {image.shape[0]}; expected the same")
    check_guide_size(guide.shape[-2:], image.shape[-2:])


def check_guide_size(guide: Sequence[int], image: Sequence[int]) -> None:
    """Raises unless a guide of (h, w) pixels is no larger than a picture of (H, W), and of its proportions but for rounding."""
    (h, w), (height, width) = guide, image
    given = f"guide is {w} px wide and {h} px high, the picture {width} px wide and {height} px high"
    if h > height or w > width:
        raise ValueError(f"{given}; expected a guide that is smaller, or as large")
    if abs(h * width - w * height) > ROUNDED_GUIDE * h * width + max(height, width):
        fitting = f"{round(h * width / height)} px by {h} px, for one"
        raise ValueError(f"{given}; expected the same proportions, to {ROUNDED_GUIDE:.0%} or a pixel: {fitting}")


def check_can_downscale(image: torch.Tensor) -> None:
    """Raises unless image is a float tensor of four dimensions with sides that a 5x5 filter can reflect."""
    if not isinstance(image, torch.Tensor) or not image.is_floating_point() or image.element_size() < 2:
        given = dtype_name(image.dtype) if isinstance(image, torch.Tensor) else type(image).__name__
        raise TypeError(f"image is {given}; expected a floating torch.Tensor of shape (B, C, H, W), of 16 bits or more")
    if image.ndim != 4 or min(image.shape[-2:]) < 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; expected (B, C, H, W), H and W at least 3")


def check_smallest_scale(smallest_scale: float) -> float:
    """A number of pixels that a network can work on, as a float, or as an int where it is whole."""
    wanted = f"expected at least {SMALLEST_SIDE} pixels, the size that the network was trained at"
    scale = as_number(smallest_scale, "smallest_scale", lambda scale: SMALLEST_SIDE <= scale < math.inf, wanted)
    return int(scale) if scale.is_integer() else scale


def check_numbers(lr: float, n_iters: int, erosion: int, early_stop: float | None) -> dict[str, Any]:
    """The numbers of an optimization, by name. Raises unless they are in range."""
    wanted = "expected a share of the loss in [0, 1), or None"
    return {
        "lr": as_number(lr, "lr", lambda lr: 0 < lr < math.inf, "expected a learning rate above 0 (the paper's is 0.002)"),
        "n_iters": as_integer(n_iters, "n_iters", "updates of the featuremap (the paper's is 15)"),
        "erosion": as_integer(erosion, "erosion", "pixels, the diameter of the kernel (the paper's is 15)"),
        "early_stop": early_stop
        if early_stop is None
        else as_number(early_stop, "early_stop", lambda share: 0 <= share < 1, wanted),
    }


def check_choice(value: object, name: str, choices: Collection[str]) -> None:
    """Raises unless value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {in_short(value)}; expected one of {', '.join(map(repr, choices))}")


def check_callback(callback: object) -> None:
    """Raises unless callback is None or can be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is a {type(callback).__name__}; expected a function of one argument, a Step")


def check_finite(losses: torch.Tensor, iteration: int, lr: float, wait: bool) -> None:
    """Raises unless all losses are numbers.

    Args:
        losses: (B,).
        iteration, lr: for the message.
        wait: whether to look even where the losses are on a GPU, which means to wait for it.
    """
    if (wait or losses.device.type == "cpu") and not losses.isfinite().all():
        raise FloatingPointError(
            f"the loss is no longer finite in iteration {iteration}; lr is {lr}: with Adam, try a smaller one"
        )


def check_inpainted_low_res(inpainted_low_res: torch.Tensor, image: torch.Tensor) -> None:
    """Raises unless inpainted_low_res is an image of half the size, as ``downscale`` halves."""
    _check_tensor(inpainted_low_res, "inpainted_low_res", channels=3, smallest=1)  # any range: a network made it
    wanted = (image.shape[0], 3, image.shape[2] // 2, image.shape[3] // 2)
    if tuple(inpainted_low_res.shape) != wanted:
        given = tuple(inpainted_low_res.shape)
        raise ValueError(f"inpainted_low_res has shape {given}; expected {wanted}, half of image's {tuple(image.shape)}")
    _check_alike(inpainted_low_res, "inpainted_low_res", image)


def _check_alike(tensor, name, image):
    if tensor.dtype != image.dtype:
        given = f"{name} is {dtype_name(tensor.dtype)} and image is {dtype_name(image.dtype)}"
        raise TypeError(f"{given}; expected the same: {name}.to(image.dtype)")
    if tensor.device != image.device:
        raise ValueError(f"{name} is on {tensor.device} and image on {image.device}; expected the same device")


def _check_tensor(tensor, name, channels, smallest=SMALLEST_SIDE):
    shape = f"(B, {channels}, H, W)"
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; expected a torch.Tensor of shape {shape}")
    if tensor.ndim != 4:
        raise ValueError(f"{name} has {tensor.ndim} dimensions, shape {tuple(tensor.shape)}; expected 4 (shape {shape})")
    if tensor.shape[1] != channels:
        raise ValueError(
            f"{name} has {tensor.shape[1]} channels, shape {tuple(tensor.shape)}; expected {channels} (shape {shape})"
        )
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} is {dtype_name(tensor.dtype)}; expected float32 or float64")
    if tensor.shape[0] < 1 or min(tensor.shape[-2:]) < smallest:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected at least one picture of {smallest} px a side")
    low, high = (value.item() for value in tensor.detach().aminmax())  # what is nan anywhere makes both nan
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} has values that are not finite (nan or inf); expected numbers")
    return low, high


def as_integer(value: Any, name: str, what: str, least: int = 0, most: float = math.inf) -> int:
    """A whole number of any type as an int.

    Args:
        name: of the argument, in the message.
        what: is counted, in the message.
        least, most: that it may be.

    Raises:
        ValueError: where it is no whole number in this range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, RuntimeError):  # torch raises the second for a tensor of fractions
        number = None
    if number is None or not least <= number <= most:
        wanted = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise ValueError(f"{name} is {in_short(value)}; expected a whole number of {wanted} {what}".rstrip())
    return number


def as_number(value: Any, name: str, holds: Callable[[float], bool], wanted: str) -> float:
    """A number of any type as a float.

    Args:
        name: of the argument, in the message.
        holds: whether a number is in range; it is asked about nan where the value is no number at all.
        wanted: is said in the message.

    Raises:
        ValueError: where it is no number, or none in this range.
    """
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        number = math.nan
    if not holds(number):
        raise ValueError(f"{name} is {in_short(value)}; {wanted}")
    return number


def as_size(size: Any) -> tuple[int, int]:
    """(H, W) in pixels, of which one number stands for both.

    Raises:
        ValueError: where a side is no whole number from 1 to ``LARGEST_SIDE``.
    """
    height, width = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    height, width = (as_integer(side, "size", "pixels", least=1, most=LARGEST_SIDE) for side in (height, width))
    return height, width


def in_short(value: object) -> str:
    """A value as it is written in a message: at most some 60 letters of it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
