"""What an argument must be. Each check names the argument, what was given and what is wanted, before any work is done."""

import math
import numbers
from collections.abc import Collection

import torch

SMALLEST_SIDE = 16  # pixels; below, a LaMa generator's featuremap is too small to reflect its border
ROUNDING = 1e-4  # by which a resized picture may leave [0, 1]
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


def check_diameter(diameter: int) -> None:
    """Raises unless diameter is a whole number of pixels."""
    check_integer(diameter, "diameter", "pixels, of the kernel")


def _check_binary(mask):
    if not ((mask == 0) | (mask == 1)).all():
        low, high = mask.min().item(), mask.max().item()
        wanted = "expected only 0 (known) and 1 (hole). Threshold it first: mask = (mask > 0.5).float()"
        if high > 1:
            wanted = wanted.replace("mask > 0.5", "mask > 127")
        raise ValueError(f"mask has values between {low:g} and {high:g}; {wanted}")


def check_image(image: torch.Tensor) -> None:
    """Raises unless image is a float tensor (B, 3, H, W) with values in [0, 1]."""
    _check_tensor(image, "image", channels=3)
    low, high = image.min().item(), image.max().item()
    if low < -ROUNDING or high > 1 + ROUNDING:
        hint = ". Divide an 8-bit picture by 255: image / 255" if high > 1.5 else ""
        raise ValueError(f"image has values between {low:g} and {high:g}; expected values in [0, 1]{hint}")


def check_can_downscale(image: torch.Tensor) -> None:
    """Raises unless image is a float tensor of four dimensions with sides that a 5x5 filter can reflect."""
    if not isinstance(image, torch.Tensor) or not image.is_floating_point() or image.element_size() < 2:
        given = dtype_name(image.dtype) if isinstance(image, torch.Tensor) else type(image).__name__
        raise TypeError(f"image is {given}; expected a floating torch.Tensor of shape (B, C, H, W), of 16 bits or more")
    if image.ndim != 4 or min(image.shape[-2:]) < 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; expected (B, C, H, W), H and W at least 3")


def check_smallest_scale(smallest_scale: float) -> None:
    """Raises unless smallest_scale is a number of pixels that a network can work on."""
    if isinstance(smallest_scale, bool) or not isinstance(smallest_scale, numbers.Real):
        raise ValueError(f"smallest_scale is {smallest_scale!r}; expected a number of pixels")
    if not SMALLEST_SIDE <= smallest_scale < math.inf:
        wanted = f"expected at least {SMALLEST_SIDE} pixels, the size that the network was trained at"
        raise ValueError(f"smallest_scale is {smallest_scale!r}; {wanted}")


def check_numbers(lr: float, n_iters: int, erosion: int, early_stop: float | None) -> None:
    """Raises unless the numbers of an optimization are in range."""
    if not isinstance(lr, numbers.Real) or not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr!r}; expected a learning rate above 0 (the paper's is 0.002)")
    check_integer(n_iters, "n_iters", "updates of the featuremap (the paper's is 15)")
    check_integer(erosion, "erosion", "pixels, the diameter of the kernel (the paper's is 15)")
    if early_stop is not None and (not isinstance(early_stop, numbers.Real) or not 0 <= early_stop < 1):
        raise ValueError(f"early_stop is {early_stop!r}; expected a share of the loss in [0, 1), or None")


def check_choice(value: object, name: str, choices: Collection[str]) -> None:
    """Raises unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")


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
    if not tensor.isfinite().all():
        raise ValueError(f"{name} has values that are not finite (nan or inf); expected numbers")


def check_integer(value: int, name: str, what: str) -> None:
    """Raises unless value is a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(f"{name} is {value!r}; expected a whole number of 0 or more {what}")


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
