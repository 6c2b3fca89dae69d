"""Photos and masks as tensors, and back."""

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from refine_lib import random_scenes, stroke_masks
from refine_lib.photos import BUILT_IN, load_mask, load_photo, save_photo, to_pixels


@pytest.mark.parametrize("name", BUILT_IN)
def test_photos_come_as_tensors_and_go_back_bit_for_bit(name, tmp_path):
    photo = load_photo(name)
    assert photo.ndim == 4 and photo.shape[1] == 3 and photo.dtype == torch.float32
    assert 0.5 < photo.max() <= 1 and photo.min() >= 0
    save_photo(photo, tmp_path / "photo.png")
    assert torch.equal(load_photo(tmp_path / "photo.png"), photo)
    assert np.array_equal(to_pixels(picture()[1]), picture()[1][0, 0].numpy().astype(np.uint8) * 255)


def test_a_photo_is_turned_upright_and_of_8_bits(tmp_path):
    pixels = to_pixels(load_photo("chelsea"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown, the first row is the right side
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(to_pixels(load_photo(tmp_path / "turned.png")), np.rot90(pixels, -1))
    Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="pixels of mode I;16; expected 8 bits a channel"):
        load_photo(tmp_path / "deep.png")


def test_a_photo_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="name_or_path is 'cat.png'; expected one of 'astronaut'"):
        load_photo("cat.png")


def test_a_mask_is_what_is_brighter_than_half(tmp_path):
    mask = stroke_masks((40, 60), seed=1)
    save_photo(mask, tmp_path / "mask.png")
    assert torch.equal(load_mask(tmp_path / "mask.png"), mask)
    save_photo(mask, tmp_path / "noisy.jpg")  # a lossy file leaves no pixel of the known part quite black
    noisy = np.asarray(Image.open(tmp_path / "noisy.jpg"))
    assert not set(np.unique(noisy)) <= {0, 255}
    assert torch.equal(load_mask(tmp_path / "noisy.jpg"), mask)
    with pytest.raises(FileNotFoundError, match="path is 'hole.png'; expected the path of a picture, white where the hole is"):
        load_mask("hole.png")


def test_nothing_is_written_over(tmp_path):
    save_photo(random_scenes(32, seed=1), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(FileExistsError, match="a.png', which is there already; expected a new name"):
        save_photo(random_scenes(32, seed=2), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
