"""The painter without a page: files as people have them, undo and redo, a canvas that grows, and how long a stroke takes."""

import io
import time

import numpy as np
import pytest
import torch
from PIL import Image
from test_widgets import pixels

from refine_lib import random_scenes, stroke_masks
from refine_lib.photos.inpaint import inpaint_photo
from refine_lib.photos.pixels import to_pixels
from refine_lib.widgets import MaskPainter
from refine_lib.widgets.painting import Painting, looks_like_a_mask
from refine_lib.widgets.runs import told

SIZE = 48, 64  # height, width


@pytest.fixture
def painter():
    return MaskPainter(torch.rand(1, 3, *SIZE))


@pytest.fixture
def half():
    """A mask whose upper half is hole."""
    mask = np.zeros(SIZE, bool)
    mask[:24] = True
    return mask


def send(painter, content, name, kind):
    """Sends a picture, an array or bytes as the page does, in parts."""
    if not isinstance(content, bytes):
        file = io.BytesIO()
        np.save(file, content) if isinstance(content, np.ndarray) else content.save(file, name.rpartition(".")[2])
        content = file.getvalue()
    parts = [content[at : at + 1000] for at in range(0, max(len(content), 1), 1000)]
    for i, part in enumerate(parts):
        message = dict(file=name, kind=kind, part=i, parts=len(parts))
        painter.canvas._handle_custom_msg(message, [memoryview(part)])
    return painter.controls.message.value


def hole(painter):
    return painter.mask[0, 0].numpy() > 0


def photo(mode="RGB", size=SIZE):
    colors = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    return Image.fromarray(colors, "RGBA").convert(mode)


class TestFiles:
    def test_what_was_erased_from_a_photo_is_its_hole(self, painter, half):
        erased = photo()
        erased.putalpha(Image.fromarray(np.uint8(~half) * 255))
        said = send(painter, erased, "erased.png", "photo")
        assert np.array_equal(hole(painter), half) and "The hole is what was erased from erased.png." in said
        assert "refine-note" in said and painter.controls.undo.disabled
        assert np.array_equal(to_pixels(painter.image)[~half], np.asarray(photo())[~half])

    def test_a_photo_of_16_bits_keeps_them(self, painter, tmp_path):
        deep = np.random.default_rng(0).integers(0, 65536, SIZE, np.uint16)
        Image.fromarray(deep).save(tmp_path / "deep.png")
        painter.controls.path.value = str(tmp_path / "deep.png")
        assert np.array_equal(to_pixels(painter.image, np.uint16)[..., 0], deep) and not painter.controls.message.value

    @pytest.mark.parametrize("ending", ["avif", "heic", "webp", "tiff", "bmp", "gif", "jpeg"])
    def test_photos_are_taken_in_every_format(self, painter, ending):
        if f".{ending}" not in Image.registered_extensions():
            pytest.skip(f"no reader of {ending} on this machine")
        file = io.BytesIO()
        photo().save(file, {"heic": "HEIF"}.get(ending, ending))
        before = painter.image
        assert not send(painter, file.getvalue(), f"a.{ending}", "photo")
        assert painter.image is not before and painter.image.shape == (1, 3, *SIZE)

    def test_a_path_may_begin_at_home_and_be_quoted(self, painter, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        photo(size=(40, 32)).save(tmp_path / "a photo.png")
        painter.controls.path.value = ' "~/a photo.png" '
        assert painter.image.shape == (1, 3, 40, 32)

    @pytest.mark.parametrize("kind", ["bits", "0 and 1", "gray", "bool.npy", "bytes.npy", "fractions.npy", "erased", "drawn"])
    def test_masks_are_taken_as_people_have_them(self, painter, half, kind):
        drawn = Image.new("RGBA", SIZE[::-1], "lime")
        drawn.putalpha(Image.fromarray(np.uint8(half) * 255))
        black = Image.new("L", SIZE[::-1])
        black.putalpha(Image.fromarray(np.uint8(np.roll(~half, 8, 0)) * 255))  # most of its frame is there
        small = np.zeros_like(half)
        small[8:20, 8:30] = True
        erased = Image.new("L", SIZE[::-1])
        erased.putalpha(Image.fromarray(np.uint8(~small) * 255))
        file, wanted = {
            "bits": (Image.fromarray(half), half),
            "0 and 1": (Image.fromarray(np.uint8(half)), half),
            "gray": (Image.fromarray(np.uint8(half) * 200), half),
            "bool.npy": (half, half),
            "bytes.npy": (np.uint8(half) * 255, half),
            "fractions.npy": (half[None, :, :, None] * 0.75, half),
            "erased": (erased, small),
            "drawn": (drawn, half),
        }[kind]
        said = send(painter, file, kind if "." in kind else f"{kind}.png", "mask")
        assert np.array_equal(hole(painter), wanted)
        assert ("what was erased from erased.png" in said) if kind == "erased" else not said

    def test_what_the_library_refuses_is_refused_in_its_words(self, painter, half, tmp_path):
        before, small = painter.mask, Image.fromarray(half[:32])
        small.save(tmp_path / "small.png")
        with pytest.raises(ValueError) as refused:
            inpaint_photo(photo(), tmp_path / "small.png", network="mini-lama")
        said = send(painter, small, "small.png", "mask")
        assert said == str(refused.value).replace("the file is", "the picture is")
        pages = io.BytesIO()
        photo().save(pages, "tiff", save_all=True, append_images=[photo()])
        assert "holds 2 pictures" in send(painter, pages.getvalue(), "pages.tiff", "photo")
        assert "cannot be read as an array" in send(painter, b"\x93NUMPY\x01\x00\x08\x00nonsense", "a.npy", "mask")
        assert "16.0" not in said and "Error" not in said + painter.controls.message.value
        array = np.array([{}] * 64, object)
        assert "cannot be read as an array" in send(painter, pickled(array), "pickle.npy", "mask")
        assert torch.equal(painter.mask, before)

    def test_a_photo_is_not_taken_for_a_mask_unasked(self, painter):
        before = painter.mask
        for mode in ("RGB", "L"):
            said = send(painter, photo(mode), "holiday.png", "mask")
            assert "holiday.png has many shades, as a photo has; expected a mask" in said and "Error" not in said
        assert torch.equal(painter.mask, before)

    @pytest.mark.parametrize("name, is_one", [("astronaut", 0), ("chelsea", 0), ("coffee", 0), ("rocket", 0), ("horse", 1)])
    def test_photos_do_not_look_like_masks(self, name, is_one):
        data = pytest.importorskip("skimage.data")
        assert looks_like_a_mask(np.asarray(Image.fromarray(getattr(data, name)()).convert("L")) / 255) == is_one

    @pytest.mark.parametrize("radius", [0, 2, 10])
    def test_a_soft_or_lossy_mask_looks_like_one(self, radius):
        from PIL import ImageFilter

        mask = Image.fromarray(to_pixels(stroke_masks(256, seed=3))).filter(ImageFilter.GaussianBlur(radius))
        file = io.BytesIO()
        mask.save(file, "JPEG", quality=50)
        assert looks_like_a_mask(np.asarray(Image.open(file)) / 255)

    def test_a_dropped_mask_of_the_pictures_size_is_known_and_said(self, painter, half):
        image = painter.image
        said = send(painter, Image.fromarray(half), "mask.png", "dropped")
        assert np.array_equal(hole(painter), half) and painter.image is image
        assert "mask.png is black and white and of the picture&#x27;s size: it was taken as the hole." in said
        assert not send(painter, photo(), "photo.png", "dropped")
        assert np.array_equal(to_pixels(painter.image), np.asarray(photo())) and not painter.mask.any()
        send(painter, Image.fromarray(half[:40]), "drawing.png", "dropped")  # of another size: a picture
        assert painter.image.shape == (1, 3, 40, 64)

    def test_an_old_message_is_gone_when_the_next_thing_succeeds(self, painter):
        for succeed in (
            lambda: painter.controls.invert.click(),
            lambda: setattr(painter.controls.picture, "value", "drawn scene 1"),
            lambda: send(painter, photo(), "a.png", "photo"),
            lambda: painter.canvas._handle_custom_msg({"change": "undo"}, []),
        ):
            painter.controls.path.value = f"{time.monotonic()}"
            assert "expected the path of a picture" in painter.controls.message.value
            succeed()
            assert not painter.controls.message.value

    def test_parts_of_two_files_are_not_mixed(self, painter):
        first = dict(file="a.png", kind="photo", part=0, parts=3)
        painter.canvas._handle_custom_msg(first, [memoryview(b"the beginning of another file")])
        assert not send(painter, photo(), "b.png", "photo")
        assert np.array_equal(to_pixels(painter.image), np.asarray(photo()))


def pickled(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


class TestChanges:
    def test_what_is_undone_can_be_done_again_until_something_else_is(self):
        painting, seen = Painting(20, 30), []
        for change in (("stroke", [(5, 5), (15, 9)], 4), ("rectangle", (3, 3), (9, 9)), ("invert",)):
            getattr(painting, change[0])(*change[1:])
            seen.append(painting.mask)
        assert painting.can_undo and not painting.can_redo
        painting.undo(), painting.undo()
        assert torch.equal(painting.mask, seen[0]) and painting.can_redo
        for expected in seen[1:]:
            painting.redo()
            assert torch.equal(painting.mask, expected)
        painting.undo()
        painting.clear()
        painting.redo()
        assert not painting.mask.any() and not painting.can_redo

    def test_the_page_undoes_and_redoes_and_the_buttons_say_whether_they_can(self, painter):
        controls = painter.controls
        assert controls.undo.disabled and controls.redo.disabled
        controls.invert.click()
        painter.canvas._handle_custom_msg({"change": "undo"}, [])
        assert not painter.mask.any() and controls.undo.disabled and not controls.redo.disabled
        painter.canvas._handle_custom_msg({"change": "redo"}, [])
        assert painter.mask.all() and not controls.undo.disabled and controls.redo.disabled
        painter.canvas._handle_custom_msg({"change": "_take"}, [])  # nothing else
        assert painter.mask.all() and not controls.message.value

    def test_the_slider_follows_the_brush_of_the_page(self, painter):
        painter.canvas.width = 11.0
        assert painter.controls.width.value == 11
        painter.canvas.width = 5000.0
        assert painter.canvas.width == painter.controls.width.value == painter.controls.width.max

    def test_the_canvas_grows_and_the_new_area_is_hole(self, painter, half):
        painter.mask = torch.from_numpy(half)[None, None].float()
        image, mask, controls = painter.image, painter.mask, painter.controls
        for side, by in zip(controls.sides, (1, 2, 3, 4), strict=True):
            side.value = by
        controls.extend.click()
        assert painter.image.shape == (1, 3, 48 + 4, 64 + 6) and painter.canvas.size == [52, 70]
        assert torch.equal(painter.image[..., 1:49, 4:68], image) and torch.equal(painter.mask[..., 1:49, 4:68], mask)
        assert painter.mask.sum() == mask.sum() + 52 * 70 - 48 * 64
        assert torch.equal(painter.image[..., 0, 4:68], image[..., 0, :])
        assert (
            "Quality falls with the distance" in controls.message.value and [side.value for side in controls.sides] == [0] * 4
        )
        assert pixels(painter.canvas.picture).shape == (52, 70, 3)
        large = np.zeros((52, 70), np.uint8)
        large[20:30, 20:30] = 255
        assert not send(painter, Image.fromarray(large), "mask.png", "mask") and hole(painter).sum() == 100
        controls.undo.click(), controls.undo.click()
        assert torch.equal(painter.image, image) and torch.equal(painter.mask, mask) and painter.canvas.size == [48, 64]
        controls.undo.click()
        assert not painter.mask.any() and controls.undo.disabled

    @pytest.mark.parametrize(
        "sides, said",
        [((0, 0, 0, 0), "nothing to extend by"), ((-1, 0, 0, 0), "extend is -1"), ((0, 10**9, 0, 0), "extend is")],
    )
    def test_a_wrong_extent_is_told_and_changes_nothing(self, painter, sides, said):
        image = painter.image
        for side, by in zip(painter.controls.sides, sides, strict=True):
            side.value = by
        painter.controls.extend.click()
        assert said in painter.controls.message.value and "Error" not in painter.controls.message.value
        assert painter.image is image

    def test_the_four_numbers_unfold(self, painter):
        assert painter._fold.layout.display == "none"
        painter.controls.unfold.value = True
        assert painter._fold.layout.display is None


class TestLargePhotos:
    def test_a_stroke_on_12_megapixels_is_answered_at_once_and_sends_little(self):
        painter = MaskPainter(torch.rand(1, 1, 3000, 4000).expand(1, 3, -1, -1))
        assert all(max(Image.open(io.BytesIO(sent)).size) == 1024 for sent in (painter.canvas.picture, painter.canvas.hole))
        stroke = dict(
            rectangle=False, erases=False, width=250, size=[3000, 4000], points=[[i, i / 2] for i in range(0, 3000, 10)]
        )
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            painter.canvas._handle_custom_msg(stroke, [])
            seconds.append(time.perf_counter() - start)
        assert painter.mask[0, 0, 500, 1000] == 1 and len(painter.canvas.hole) < 20_000
        assert min(seconds) < 0.2

    def test_what_is_seen_zoomed_is_sent_with_its_own_pixels(self, monkeypatch):
        image, sent = random_scenes(64, seed=1).repeat(1, 1, 20, 20), []
        painter = MaskPainter(image)
        monkeypatch.setattr(painter.canvas, "send", lambda message, buffers=(): sent.append((message, buffers)))
        painter.canvas._handle_custom_msg({"view": [99.6, -3, 500.2, 300], "size": [1280, 1280]}, [])
        (message, (picture, shown)), *_ = sent
        assert message == {"detail": (100, 0, 500, 300)}
        assert np.array_equal(pixels(picture), to_pixels(image)[:300, 100:500])
        painter.canvas._handle_custom_msg(
            dict(rectangle=True, erases=False, width=1, size=[1280, 1280], points=[[110, 10], [119, 14]]), []
        )
        (_, (picture, shown)), answer = sent[1], sent[-1]
        alpha = np.asarray(Image.open(io.BytesIO(shown)).convert("RGBA"))[..., 3] > 0
        assert not picture and alpha[10:15, 10:20].all() and alpha.sum() == 50 and "painted" in answer[0]
        painter.canvas._handle_custom_msg({"view": [100, 0, 100, 300], "size": [1280, 1280]}, [])  # nothing
        painter.canvas._handle_custom_msg({"view": [0, 0, 9, 9], "size": [64, 64]}, [])  # of a picture that is gone
        painter.controls.clear.click()
        assert len(sent) == 3 and not painter.controls.message.value


class TestTold:
    def test_what_the_library_words_is_a_sentence_and_nothing_else(self):
        cases = {
            lambda: MaskPainter(torch.rand(2, 3, 32, 32)): ("image has a batch of 2; ", False),
            lambda: int("x"): ("ValueError: invalid literal", True),
            lambda: Painting(4, 4).stroke([(1, 1)], width="x"): ("TypeError: ", True),  # in the library, but not its words
            lambda: [][1]: ("IndexError: ", True),
        }
        for do, (begins, has_trace) in cases.items():
            try:
                do()
            except Exception as error:
                message, details = told(error)
            assert message.startswith(begins) and bool(details) == has_trace
