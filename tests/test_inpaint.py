"""A photo and a mask in, the filled photo out: formats, modes, what a file says beside its pixels, windows, memory."""

import functools
import resource
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from conftest import photo_in_mode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from scipy import ndimage
from skimage import data

from refine_lib import PRESETS, NothingToRefine
from refine_lib.fast.memory import Budget, available_memory, left_by_container
from refine_lib.photos import inpaint, work
from refine_lib.photos.files import LeftOut
from refine_lib.photos.inpaint import KEPT_BYTES_PER_PIXEL, inpaint_photo
from refine_lib.photos.windows import plan_windows
from refine_lib.pyramid import level_sizes
from refine_lib.result import work_of

FAST = dict(smallest_scale=48, n_iters=1, erosion=3, progress=False)
PIXELS = data.astronaut()[:96, 160:288]
HOLE = np.zeros((96, 128), bool)
HOLE[30:60, 40:80] = True
MASK = Image.fromarray(HOLE)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">a note</x:xmpmeta>'
LOSSLESS = {".png": "PNG", ".tif": "TIFF", ".webp": "WEBP"}

# Turned so, and marked with the orientation, a picture is shown as it was.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


in_mode = functools.partial(photo_in_mode, PIXELS)


def notes(orientation=1):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0132] = "Maker", orientation, "2024:05:06 07:08:09"
    exif[0x8298] = "Jürgen".encode()  # as cameras write it, though the standard knows ASCII alone
    exif.get_ifd(0x8769).update({0x829A: (1, 250), 0x927C: b"notes of the maker", 0xA434: "Lens"})
    exif.get_ifd(0x8825).update({1: "N", 2: (50.0, 30.0, 1.5)})
    return {"exif": exif.tobytes(), "icc_profile": PROFILE, "dpi": (300, 300)}


def check_notes(path, dpi=True, letters=True):
    """What ``notes`` writes is in a file, but for the orientation; ``letters`` beyond ASCII, where they were in the source."""
    with Image.open(path) as image:
        exif = image.getexif()
        assert image.info["icc_profile"] == PROFILE
        assert not dpi or image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert (exif[0x010F], exif[0x0132], exif.get(0x0112)) == ("Maker", "2024:05:06 07:08:09", None)
        details, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert (details[0x829A], details[0x927C], details[0xA434]) == ((1, 250), b"notes of the maker", "Lens")
        assert place == {1: "N", 2: (50.0, 30.0, 1.5)}
    assert not letters or "Jürgen".encode() in path.read_bytes()


def unlike(a, b):
    """(H, W), bool: where two pictures differ."""
    a, b = (np.atleast_3d(np.asarray(x)) for x in (a, b))
    return (a != b).any(axis=2)


def painting(color, seen=None):
    """Stands in for ``multiscale_inpaint``: paints everything in one color, and notes what it was given."""

    def paint(image, mask, model, **given):
        if seen is not None:
            seen.append((image, mask, given))
        painted = torch.tensor(color).view(1, 3, 1, 1).expand_as(image)
        return SimpleNamespace(image=painted, stopped=False, message="", note="")

    return paint


@pytest.fixture
def painted(monkeypatch, tiny_single):
    """A network that is not run, for what a hole is filled with does not matter."""
    monkeypatch.setattr(work, "multiscale_inpaint", painting([0.9, 0.1, 0.6]))
    return tiny_single


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("ending", LOSSLESS)
def test_pixels_outside_the_hole_come_back_bit_for_bit(tiny_single, tmp_path, mode, ending):
    if ending == ".webp" and mode in ("1", "P", "I;16"):
        pytest.skip("WebP has no such mode")
    photo = in_mode(mode)
    photo.save(tmp_path / f"photo{ending}", **notes(), **({"lossless": True, "exact": True} if ending == ".webp" else {}))
    out = tmp_path / f"out{ending}"
    done = inpaint_photo(tmp_path / f"photo{ending}", MASK, out, tiny_single, **FAST)
    with Image.open(tmp_path / f"photo{ending}") as given, Image.open(out) as found:
        as_given = given.convert({"P": "RGB", "1": "L"}.get(mode, given.mode))
        assert found.format == LOSSLESS[ending]
        found = found.convert("RGB") if found.mode == "P" else found
        assert found.mode == as_given.mode and found.size == given.size
        changed = unlike(found, as_given)
        assert not changed[~HOLE].any() and changed[HOLE].mean() > 0.9
        assert np.array_equal(np.asarray(done.image.convert(found.mode)), np.asarray(found))
        if mode.endswith("A"):
            assert (np.asarray(found)[..., -1][HOLE] == 255).all()
        if mode == "I;16":
            assert len(np.unique(np.asarray(found)[HOLE])) > 256  # in its full depth
    check_notes(out, dpi=ending != ".webp", letters=ending != ".tif")  # Pillow wrote "?" into the TIFF
    assert done.path == out and done.windows == [(0, 96, 0, 128)] and not done.stopped


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", [".jpg", *LOSSLESS])
def test_a_photo_of_a_turned_camera_comes_back_upright(painted, tmp_path, orientation, ending):
    turn = TURNS[orientation]
    lying = in_mode("RGB") if turn is None else in_mode("RGB").transpose(turn)
    options = {"lossless": True} if ending == ".webp" else {"quality": 98, "subsampling": 0} if ending == ".jpg" else {}
    lying.save(tmp_path / f"photo{ending}", **notes(orientation), **options)
    inpaint_photo(tmp_path / f"photo{ending}", MASK, tmp_path / f"out{ending}", painted, **FAST)
    found = np.asarray(Image.open(tmp_path / f"out{ending}"))
    assert found.shape == (96, 128, 3)
    check_notes(tmp_path / f"out{ending}", dpi=ending != ".webp", letters=ending != ".tif")
    if ending == ".jpg":
        assert np.abs(found.astype(int) - PIXELS)[~HOLE].mean() < 3
    else:
        assert not unlike(found, PIXELS)[~HOLE].any()
    assert unlike(found, PIXELS)[HOLE].mean() > 0.9


@pytest.mark.parametrize(
    "options", [{"quality": 60}, {"quality": 85, "subsampling": 1}, {"quality": 97, "subsampling": 0}], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_compressed_as_it_was(painted, tmp_path, options, mode):
    in_mode(mode).save(tmp_path / "photo.jpg", **options, **notes(), xmp=XMP)
    inpaint_photo(tmp_path / "photo.jpg", MASK, tmp_path / "out.jpg", painted, **FAST)
    with Image.open(tmp_path / "photo.jpg") as given, Image.open(tmp_path / "out.jpg") as found:
        assert found.mode == mode and found.quantization == given.quantization
        assert found.info["xmp"] == XMP
        far = ~ndimage.binary_dilation(HOLE, iterations=17)  # a block of the colors may span 16 px
        change = np.abs(np.asarray(found).astype(int) - np.asarray(given))[far]
        assert change.max() <= 12 and change.mean() < 0.5
        anew = BytesIO()
        Image.open(tmp_path / "photo.jpg").save(anew, "JPEG", quality=40)
        other = np.abs(np.asarray(Image.open(anew)).astype(int) - np.asarray(given))[far]
        assert other.mean() > 3 * change.mean()
        assert unlike(found, given)[HOLE].mean() > 0.9
    check_notes(tmp_path / "out.jpg")


@pytest.mark.parametrize("source", [".jpg", *LOSSLESS])
def test_what_a_file_says_goes_over_into_every_format(painted, tmp_path, source):
    in_mode("RGB").save(tmp_path / "first.jpg", **notes(6), xmp=XMP)
    mask = MASK.transpose(Image.Transpose.ROTATE_270)
    inpaint_photo(tmp_path / "first.jpg", mask, tmp_path / f"second{source}", painted, **FAST)
    done = inpaint_photo(tmp_path / f"second{source}", mask, None, painted, **FAST)
    for target in (".jpg", *LOSSLESS):
        done.save(tmp_path / f"third{target}")
        check_notes(tmp_path / f"third{target}", dpi=".webp" not in (source, target))
        with Image.open(tmp_path / f"third{target}") as image:
            assert image.info["xmp"] == XMP and image.size == (96, 128)
    assert done.path == tmp_path / "third.webp"
    with pytest.raises(FileExistsError, match="which is there already"):
        done.save(tmp_path / "third.png")


@pytest.mark.parametrize("format", ["GIF", "BMP"])
def test_gif_and_bmp_may_come_in(painted, format):
    file = BytesIO()
    in_mode("RGB").save(file, format)
    done = inpaint_photo(file, MASK, None, painted, **FAST)
    assert done.image.mode == "RGB" and not unlike(done.image, Image.open(file).convert("RGB"))[~HOLE].any()


def test_a_palette_with_a_transparent_color_becomes_rgba(painted, tmp_path):
    photo = in_mode("RGB").quantize(32)
    photo.save(tmp_path / "photo.png", transparency=photo.getpixel((0, 0)))
    done = inpaint_photo(tmp_path / "photo.png", MASK, tmp_path / "out.png", painted, **FAST)
    given = np.asarray(Image.open(tmp_path / "photo.png").convert("RGBA"))
    found = np.asarray(Image.open(tmp_path / "out.png").convert("RGBA"))
    assert done.image.mode == "RGBA" and not unlike(found, given)[~HOLE].any()
    assert (given[..., 3] == 0).any() and (found[..., 3][HOLE] == 255).all()


def test_gray_is_the_mean_of_what_the_network_made(monkeypatch, tiny_single):
    seen = []
    monkeypatch.setattr(work, "multiscale_inpaint", painting([0.2, 0.4, 0.9], seen))
    for mode, value in (("L", 128), ("LA", 128), ("I;16", 32768)):
        found = np.atleast_3d(np.asarray(inpaint_photo(in_mode(mode), MASK, None, tiny_single, **FAST).image))
        assert (np.abs(found[HOLE][:, 0].astype(int) - value) <= 1).all()
        assert torch.equal(seen[-1][0][:, 0], seen[-1][0][:, 2])


def test_the_settings_are_those_of_the_network_unless_they_are_given(monkeypatch, tiny_single):
    seen = []
    monkeypatch.setattr(work, "multiscale_inpaint", painting([0.0, 0.0, 0.0], seen))
    for network, wanted in (("mini-lama", (64, 0.005)), (tiny_single, (512, 0.002))):
        inpaint_photo(in_mode("RGB"), MASK, None, network, progress=False)
        assert (seen[-1][2]["smallest_scale"], seen[-1][2]["lr"]) == wanted
    inpaint_photo(in_mode("RGB"), MASK, None, tiny_single, smallest_scale=32, lr=0.1, n_iters=7, progress=False)
    assert [seen[-1][2][key] for key in ("smallest_scale", "lr", "n_iters", "erosion")] == [32, 0.1, 7, 15]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_what_a_window_gives_lands_where_it_was(monkeypatch, tiny_single, mode):
    def unchanged(image, mask, *_, **__):
        return SimpleNamespace(image=image, stopped=False, message="", note="")

    monkeypatch.setattr(work, "multiscale_inpaint", unchanged)
    done = inpaint_photo(in_mode(mode), MASK, None, tiny_single, windows="always", **FAST | {"smallest_scale": 20})
    assert done.windows == [(10, 80, 20, 100)]
    assert np.array_equal(np.asarray(done.image.convert("RGB")), np.asarray(in_mode(mode).convert("RGB")))


def test_a_dilated_hole_is_the_hole_and_all_that_is_near(monkeypatch, tiny_single):
    monkeypatch.setattr(work, "multiscale_inpaint", painting([1.0, 0.0, 1.0]))
    point = np.zeros((96, 128), bool)
    point[0, 50] = point[70, 64] = True
    distance = ndimage.distance_transform_edt(~point)
    for dilation in (0, 1, 6):
        done = inpaint_photo(in_mode("RGB"), Image.fromarray(point), None, tiny_single, dilation=dilation, **FAST)
        changed = (np.asarray(done.image) == [255, 0, 255]).all(axis=2)
        assert changed[distance <= dilation].all() and not changed[distance > dilation + 0.5].any()
        assert np.array_equal(done.mask[0, 0].numpy() > 0, changed)


def test_a_soft_edge_blends_inside_the_hole(monkeypatch, tiny_single):
    monkeypatch.setattr(work, "multiscale_inpaint", painting([1.0, 1.0, 1.0]))
    black = Image.new("RGB", (128, 96))
    done = inpaint_photo(black, MASK, None, tiny_single, soft_edge=3, **FAST)
    assert np.asarray(done.image)[45, 39:46, 0].tolist() == [0, 64, 128, 191, 255, 255, 255]
    assert np.asarray(done.image)[45, 74:81, 1].tolist() == [255, 255, 255, 191, 128, 64, 0]
    deep = inpaint_photo(Image.fromarray(np.zeros((96, 128), np.uint16)), MASK, None, tiny_single, soft_edge=1, **FAST)
    assert np.asarray(deep.image)[45, 39:43].tolist() == [0, 32768, 65535, 65535]
    whole = inpaint_photo(black, Image.new("L", (128, 96), 255), None, tiny_single, soft_edge=3, **FAST)
    assert (np.asarray(whole.image) == 255).all()  # a hole without a rim


@pytest.fixture
def untouched(tiny_single, monkeypatch):
    """A network that must not be run or asked for; the check that it is a network is no work."""
    for module, name in ((work, "multiscale_inpaint"), (inpaint, "bytes_per_pixel"), (inpaint, "load_network")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("work was done"))
    return tiny_single


WRONG = {
    "threshold": ({"threshold": 1.0}, "threshold is 1.0; expected a share of white between 0 and 1"),
    "dilation": ({"dilation": 1.5}, "dilation is 1.5; expected a whole number of 0 or more pixels"),
    "soft_edge": ({"soft_edge": -1}, "soft_edge is -1; expected a width of 0 or more pixels"),
    "windows": ({"windows": "some"}, "windows is 'some'; expected one of 'auto', 'always', 'never'"),
    "context": ({"context": float("nan")}, "context is nan; expected 0 or more"),
    "lr": ({"lr": 0}, "lr is 0; expected a learning rate above 0"),
    "smallest_scale": ({"smallest_scale": 4}, "smallest_scale is 4; expected at least 16 pixels"),
    "n_iters": ({"n_iters": -1}, "n_iters is -1"),
    "device": ({"device": "cpu"}, "device is 'cpu' and network is a split network; expected None"),
    "network": ({"network": 3}, "model is a int without .front; expected split_network"),
    "ending": ({"output": "a.psd"}, "output is 'a.psd'; expected a name that ends in one of"),
    "folder": ({"output": "nowhere/a.png"}, "output is 'nowhere/a.png', whose folder is not there"),
    "size": (
        {"mask": MASK.resize((64, 48))},
        "mask is 64 px wide and 48 px high, the file is 128 px wide and 96 px high; expected",
    ),
    "photo": ({"photo": "cat.jpg"}, "photo is 'cat.jpg'; expected the path of a picture"),
    "mask": ({"mask": "cat.jpg"}, "mask is 'cat.jpg'; expected the path of a picture, white where the hole is"),
    "the photo as its own mask": ({"photo": MASK}, "mask is the file, the photo itself; expected another picture, white where"),
    "transparency": ({"photo": in_mode("RGBA"), "output": "a.jpg"}, "the file has transparency, which JPEG does not hold"),
    "16 bits": ({"photo": in_mode("I;16"), "output": "a.webp"}, "the file has 16 bits a channel, which WEBP does not hold"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_any_work(untouched, case, tmp_path, monkeypatch):
    given, words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=words):
        inpaint_photo(**{"photo": in_mode("RGB"), "mask": MASK, "network": untouched, "progress": False} | given)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_is_named_before_any_work(untouched, tmp_path):
    (tmp_path / "out.png").write_text("was there")
    with pytest.raises(FileExistsError, match="out.png', which is there already; expected a new name, or to overwrite it"):
        inpaint_photo(in_mode("RGB"), MASK, tmp_path / "out.png", "big-lama")
    assert (tmp_path / "out.png").read_text() == "was there"


def test_an_output_is_written_over_where_that_is_asked_for(painted, tmp_path):
    (tmp_path / "out.png").write_text("was there")
    inpaint_photo(in_mode("RGB"), MASK, tmp_path / "out.png", painted, overwrite=True, **FAST)
    assert not unlike(Image.open(tmp_path / "out.png"), PIXELS)[~HOLE].any()
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_a_mask_of_the_photo_as_it_lies_is_told_from_one_of_another_size(untouched, tmp_path):
    in_mode("RGB").save(tmp_path / "photo.png", **notes(6))
    with pytest.raises(
        ValueError, match="mask is 128 px wide and 96 px high, .*photo.png is 96 px wide and 128 px high when it is"
    ):
        inpaint_photo(tmp_path / "photo.png", MASK, None, untouched)


def test_without_a_hole_the_photo_comes_back_as_it_is_and_that_is_said(untouched, tmp_path):
    with pytest.warns(
        NothingToRefine, match="The mask has no hole, nothing above 50% of white: the photo comes back"
    ) as caught:
        done = inpaint_photo(in_mode("RGBA"), Image.new("L", (128, 96)), tmp_path / "out.png", untouched)
    assert len(caught) == 1 and done.windows == [] and str(done).endswith("the photo comes back as it is.")
    assert not unlike(Image.open(tmp_path / "out.png"), in_mode("RGBA")).any()


def test_damaged_exif_data_do_not_hinder_and_are_said(painted, tmp_path):
    in_mode("RGB").save(tmp_path / "photo.jpg", exif=b"Exif\0\0" + bytes(30))
    with pytest.warns(LeftOut, match="photo.jpg are damaged and were left out") as caught:
        done = inpaint_photo(tmp_path / "photo.jpg", MASK, tmp_path / "out.jpg", painted, **FAST)
    assert len(caught) == 1 and done.message == str(caught[0].message) and str(done).endswith(done.message)
    assert unlike(done.image, PIXELS)[HOLE].all() and b"Exif" not in (tmp_path / "out.jpg").read_bytes()


def test_a_full_disk_is_a_sentence_and_leaves_no_file(painted, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # no file may be larger: so ends a full disk, too
    try:
        with pytest.raises(OSError, match="output is .*out.png', which could not be written: .*File too large"):
            inpaint_photo(in_mode("RGB"), MASK, tmp_path / "out.png", painted, **FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_that_nothing_was_refined_is_said_once(tiny_single):
    two = Image.fromarray(HOLE | HOLE[::-1, ::-1])
    with pytest.warns(NothingToRefine, match="Nothing was refined: the short side, 96 px") as caught:
        done = inpaint_photo(in_mode("RGB"), two, None, tiny_single, smallest_scale=90, n_iters=1, progress=False)
    assert len(caught) == 1 and done.message == str(caught[0].message) and not done.stopped


def corners(height=160, width=200):
    """A larger photo with a small hole near each of three corners, and its mask."""
    hole = np.zeros((height, width), bool)
    hole[6:22, 8:24] = hole[height - 20 : height - 8, 10:40] = hole[10:30, width - 30 : width - 12] = True
    return data.coffee()[:height, 100 : 100 + width], hole


@pytest.fixture
def memory_for(monkeypatch):
    """Makes room for a refinement of so many pixels beside the results of a photo of ``shape``."""

    def limit(pixels, shape):
        monkeypatch.setattr(inpaint, "bytes_per_pixel", lambda model, optimizer: 1000.0)
        monkeypatch.setattr(inpaint, "HELD_PER_BYTE", 1)
        room = 1000 * pixels + KEPT_BYTES_PER_PIXEL * shape[0] * shape[1]
        monkeypatch.setattr(inpaint, "available_memory", lambda device: room)

    return limit


SMALL = FAST | {"smallest_scale": 32}


@pytest.mark.parametrize("windows", ["auto", "always"])
def test_windows_fill_every_hole_and_nothing_else_at_full_size(tiny_single, memory_for, windows, capsys):
    pixels, hole = corners()
    memory_for(80 * 80 if windows == "auto" else 10**9, hole.shape)
    options = SMALL | {"progress": True, "windows": windows}
    done = inpaint_photo(Image.fromarray(pixels), Image.fromarray(hole), None, tiny_single, **options)
    changed = unlike(done.image, pixels)
    assert done.image.size == (200, 160) and not changed[~hole].any() and changed[hole].mean() > 0.9
    assert len(done.windows) == len(done.results) == 3
    assert done.windows[0] == (0, 16 + 48, 0, 16 + 48)  # 24 px around a hole; where the photo ends, more elsewhere
    assert [tuple(r.image.shape[-2:]) for r in done.results] == [(w[1] - w[0], w[3] - w[2]) for w in done.windows]
    shown = capsys.readouterr().err
    assert "window 1/3, level 1/2" in shown and "window 3/3, level 2/2, loss" in shown and "100%" in shown


def test_where_memory_holds_the_photo_it_is_computed_whole(tiny_single, memory_for):
    pixels, hole = corners()
    memory_for(hole.size, hole.shape)
    for windows in ("auto", "never"):
        options = SMALL | {"windows": windows, "context": 3}
        done = inpaint_photo(Image.fromarray(pixels), Image.fromarray(hole), None, tiny_single, **options)
        assert done.windows == [(0, 160, 0, 200)] and len(done.results) == 1


def test_too_little_memory_is_said_in_words(untouched, memory_for, monkeypatch):
    pixels, hole = corners()
    memory_for(160 * 200 - 1, hole.shape)
    given = Image.fromarray(pixels), Image.fromarray(hole), None, untouched
    words = (
        "the photo, 200 px wide and 160 px high, needs about 32 MB of memory, and 32 MB are there; expected more, or windows"
    )
    with pytest.raises(MemoryError, match=words):
        inpaint_photo(*given, windows="never", **SMALL)
    memory_for(30 * 30, hole.shape)
    words = (
        "the hole from row 6 and column 8 on, with 16 px around it 40 px wide and 38 px high, needs .* expected more, another"
    )
    with pytest.raises(MemoryError, match=words):
        inpaint_photo(*given, **SMALL | {"smallest_scale": 16, "windows": "always"})


def test_memory_that_runs_out_on_the_way_is_said_in_words(tiny_single, monkeypatch):
    def greedy(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(work, "multiscale_inpaint", greedy)
    with pytest.raises(MemoryError, match="memory did not hold 128 px by 96 px on the device; expected more, or windows"):
        inpaint_photo(in_mode("RGB"), MASK, None, tiny_single, **FAST)


def test_a_later_window_sees_what_an_earlier_one_filled(memory_for, monkeypatch, tiny_single):
    hole = np.zeros((96, 160), bool)
    hole[40:60, 40:60] = hole[40:60, 90:110] = True
    memory_for(92 * 92, hole.shape)
    seen = []
    monkeypatch.setattr(work, "multiscale_inpaint", painting([1.0, 0.0, 1.0], seen))
    pixels = data.coffee()[:96, 100:260]
    options = FAST | {"smallest_scale": 80}  # wants 60 px around a hole, and has memory for 36
    done = inpaint_photo(Image.fromarray(pixels), Image.fromarray(hole), None, tiny_single, context=0, **options)
    (top, _, left, right), (_, _, left2, _) = done.windows
    assert left2 < 60 < 90 < right and not unlike(done.image, pixels)[~hole].any()
    (_, first_mask, _), (second, second_mask, _) = seen
    assert first_mask[0, 0, 45 - top, 90 - left :].all() and first_mask.sum() > 20 * 20  # not shown what is to go there
    assert second_mask.sum() == 20 * 20
    assert second[0, :, 45 - top, 59 - left2].tolist() == [1, 0, 1]


def n_pixels(window):
    return sum(work_of(level_sizes(*window.size, 32), 15))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_every_hole_lies_wholly_in_the_one_window_that_fills_it(draw):
    height, width = draw.draw(st.integers(40, 160)), draw.draw(st.integers(40, 160))
    hole = np.zeros((height, width), bool)
    for _ in range(draw.draw(st.integers(1, 6))):
        top, left = draw.draw(st.integers(0, height - 1)), draw.draw(st.integers(0, width - 1))
        hole[top : top + draw.draw(st.integers(1, 20)), left : left + draw.draw(st.integers(1, 20))] = True
    budget = Budget(1.0, draw.draw(st.integers(60 * 60, 160 * 160)))
    holes, n = ndimage.label(hole, np.ones((3, 3)))
    try:
        windows, owner = plan_windows(hole, draw.draw(st.sampled_from(["auto", "always"])), 0.5, 32, budget, 15)
    except MemoryError:
        boxes = ndimage.find_objects(holes)
        assert any((b.stop - b.start + 32) * (c.stop - c.start + 32) > 60 * 60 for b, c in boxes)
        return
    assert np.array_equal(owner > 0, hole) and set(np.unique(owner)) - {0} == {w.number for w in windows}
    assert all(len(np.unique(owner[holes == number])) == 1 for number in range(1, n + 1))
    for i, w in enumerate(windows):
        assert 0 <= w.top < w.bottom <= height and 0 <= w.left < w.right <= width
        assert min(w.size) >= 16 and budget.holds(*w.size)
        assert (owner[w.part] == w.number).sum() == (owner == w.number).sum()
        for other in windows[:i]:
            both = w.union(other)
            assert not (w.overlaps(other) and budget.holds(*both.size) and n_pixels(both) <= n_pixels(w) + n_pixels(other))


def test_a_stopped_run_keeps_its_picture_under_another_name(tiny_single, tmp_path):
    for name in ("out.stopped.png", "out.stopped2.png"):
        done = inpaint_photo(
            in_mode("RGB"), MASK, tmp_path / "out.png", tiny_single, callback=lambda step: step.level < 1, **FAST
        )
        assert done.stopped and done.path == tmp_path / name and done.message.startswith("Stopped at level 2 of 2")
        changed = unlike(Image.open(done.path), PIXELS)
        assert changed[HOLE].mean() > 0.9 and not changed[~HOLE].any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.stopped.png", "out.stopped2.png"]


def test_a_run_stopped_in_its_second_window_keeps_the_first(tiny_single, tmp_path, memory_for):
    pixels, hole = corners()
    memory_for(80 * 80, hole.shape)
    steps = []
    done = inpaint_photo(
        Image.fromarray(pixels),
        Image.fromarray(hole),
        tmp_path / "out.png",
        tiny_single,
        callback=lambda step: steps.append(step) or len(steps) < 5,
        **SMALL,
    )
    assert done.stopped and len(done.results) == 2 and done.message.startswith("Window 2 of 3: Stopped at level 2 of 2")
    changed = unlike(done.image, pixels)
    holes, _ = ndimage.label(hole)
    reached = [changed[holes == number].mean() for number in (1, 2, 3)]
    assert min(reached[:2]) > 0.9 and reached[2] == 0


def test_the_keyboard_between_two_windows_keeps_the_first(tiny_single, memory_for, monkeypatch):
    pixels, hole = corners()
    memory_for(80 * 80, hole.shape)
    whole, calls = work.multiscale_inpaint, []

    def impatient(*args, **settings):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **settings)

    monkeypatch.setattr(work, "multiscale_inpaint", impatient)
    done = inpaint_photo(Image.fromarray(pixels), Image.fromarray(hole), None, tiny_single, **SMALL)
    assert done.stopped and done.message == "Stopped after window 1 of 3."
    assert unlike(done.image, pixels).any() and len(calls) == 2
    calls[:] = [None]
    with pytest.raises(KeyboardInterrupt):  # nothing to keep yet
        inpaint_photo(Image.fromarray(pixels), Image.fromarray(hole), None, tiny_single, **SMALL)


def test_what_is_available_is_no_more_than_the_system_and_the_container_leave(tmp_path, monkeypatch):
    assert 0 < available_memory("cpu") <= psutil.virtual_memory().total
    monkeypatch.setattr("refine_lib.fast.memory.left_by_container", lambda: 12345)
    assert available_memory(torch.device("cpu")) == 12345


CONTAINERS = {
    "none": ("", {}, float("inf")),
    "version 2": ("0::/a/b\n", {"a/b": ("max", 5, 0), "a": (900, 300, 100), ".": (None, None, 0)}, 700),
    "version 2, seen from inside": ("0::/a/b\n", {".": (900, 1000, 50)}, 0),
    "version 1": ("5:cpu,memory:/a\n0::/\n", {"cpu,memory/a": (800, 100, 10)}, 710),
    "version 1, other controllers": ("5:cpu:/a\n", {"cpu/a": (800, 100, 10)}, float("inf")),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_a_containers_limit_counts(case, tmp_path):
    lines, groups, left = CONTAINERS[case]
    (tmp_path / "list").write_text(lines)
    for path, (limit, usage, reclaimable) in groups.items():
        folder = tmp_path / "root" / path
        folder.mkdir(parents=True, exist_ok=True)
        names = (
            ("memory.max", "memory.current") if lines.startswith("0:") else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        for name, value in zip(names, (limit, usage), strict=True):
            if value is not None:
                (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {reclaimable}\ntotal_inactive_file {reclaimable}\n")
    assert left_by_container(tmp_path / "list", tmp_path / "root") == left


def test_colors_under_what_is_transparent_are_not_known(tiny_single):
    """Beside the hole, and in it; whatever they are, the picture is the same, and they stay."""
    found = []
    for hidden in ((0, 0, 0, 0), (0, 255, 0, 0)):
        pixels = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
        pixels[:40, 50:90] = hidden  # the hole is in rows 30 to 60
        done = np.asarray(inpaint_photo(Image.fromarray(pixels), MASK, None, tiny_single, **FAST).image)
        hole = np.asarray(MASK) > 0
        assert np.array_equal(done[~hole], pixels[~hole]) and (done[hole][:, 3] == 255).all()
        found.append(done[hole])
    assert np.array_equal(*found)


def test_what_may_be_a_slip_is_said(tiny_single):
    def message(mask, **settings):
        return inpaint_photo(Image.fromarray(PIXELS), mask, None, tiny_single, **FAST | settings).message

    assert "A larger dilation covers it." in message(MASK, soft_edge=60) and not message(MASK, soft_edge=3)
    black = Image.fromarray(~HOLE)
    assert "of the photo is hole. Where black is meant to be the hole, invert is wanted." in message(black)
    assert not message(black, invert=True) and not message(MASK, n_iters=0, erosion=99)
    colored = PIXELS.copy()
    colored[30:60, 40:80] = 255, 0, 0
    assert "the file has colors: what is bright in it was taken for the hole." in message(Image.fromarray(colored))


def test_a_preset_is_the_number_of_updates_and_the_optimizer_unless_one_is_given(tiny_single):
    def fill(**given):
        settings = {name: value for name, value in FAST.items() if name != "n_iters"}
        return inpaint_photo(Image.fromarray(PIXELS), MASK, None, tiny_single, **settings, **given)

    fast, spelled_out, changed, default = (
        fill(preset="fast"),
        fill(n_iters=5, optimizer="polyak"),
        fill(preset="fast", n_iters=2),
        fill(),
    )
    assert np.array_equal(fast.image, spelled_out.image)
    updates = [len(done.results[0].losses[-1]) - 1 for done in (fast, changed, default)]
    assert updates == [PRESETS["fast"]["n_iters"], 2, PRESETS["paper"]["n_iters"]] == [5, 2, 15]
    with pytest.raises(ValueError, match="preset is 'quick'; expected one of 'paper', 'fast'"):
        fill(preset="quick")
