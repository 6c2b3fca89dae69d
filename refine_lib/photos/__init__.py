"""Photos in and out: files as cameras and editors write them, windows around holes, and ``inpaint_photo``."""

from refine_lib.photos.pixels import load_mask, load_photo, save_photo, to_image, to_pixels

__all__ = ["load_mask", "load_photo", "save_photo", "to_image", "to_pixels"]
