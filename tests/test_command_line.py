"""``python -m refine_lib``: one photo, a folder of photos, what goes wrong on the way, and going on after an interruption."""

import csv
import functools
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from refine_lib import __main__ as command
from refine_lib.photos import jobs, work
from refine_lib.photos.formats import ENDINGS

HOLE = np.zeros((96, 128), np.uint8)
HOLE[30:60, 40:80] = 255
PHOTOS = {name: getattr(data, name)()[:96, :128] for name in ("astronaut", "chelsea", "coffee", "rocket")}
FAST = ["--network", "mini-lama", "--n-iters", "1", "--device", "cpu"]


@pytest.fixture
def folders(tmp_path):
    """A folder of photos, each with another ending and its mask, and the place for the filled ones."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    masks.mkdir()
    for (name, pixels), ending, mask in zip(PHOTOS.items(), (".jpg", ".PNG", ".tif"), ("", "_mask", "_mask"), strict=False):
        Image.fromarray(pixels).save(photos / f"{name}{ending}")
        Image.fromarray(HOLE).save(masks / f"{name}{mask}.png")
    return photos, masks, tmp_path / "deeper" / "filled"


@pytest.fixture
def small_network(tiny_single, monkeypatch):
    """In place of the network that would be loaded; the list says how often it was."""
    loads = []
    monkeypatch.setattr(command, "load_network", lambda *args, **_: loads.append(args) or tiny_single)
    return loads


def run(*arguments):
    """The exit code."""
    try:
        return command.main([*map(str, arguments), *FAST])
    except SystemExit as error:
        return error.code


def changed(path, pixels):
    """(H, W), bool: where a photo was changed."""
    return (np.asarray(Image.open(path)) != pixels).any(axis=2)


def on_a_console(monkeypatch):
    """As where people look at it, so that bars are shown."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_one_photo(folders, tmp_path, small_network, capsys, monkeypatch):
    on_a_console(monkeypatch)
    photos, masks, _ = folders
    out = tmp_path / "out.png"
    options = ["--dilation", 3, "--soft-edge", 2, "--windows", "always", "--context", 0.1, "--smallest-scale", 48, "--lr", 0.01]
    assert run(photos / "coffee.tif", masks / "coffee_mask.png", "-o", out, *options) == 0
    where = changed(out, PHOTOS["coffee"])
    assert where[HOLE > 0].mean() > 0.9 and where[28, 60] and not where[26, 60]
    printed = capsys.readouterr()
    assert printed.out.startswith(f"coffee.tif: wrote {out}, ") and "coffee.tif" in printed.err and "photos" not in printed.err
    assert len(small_network) == 1


def test_what_was_not_refined_is_said_in_a_line(folders, tmp_path, small_network, capsys):
    photos, masks, _ = folders
    assert run(photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "out.png", "--erosion", 99, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (
        run(photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "out.png", "--erosion", 99, "--overwrite") == 0
    )
    printed = capsys.readouterr()
    assert "s. Nothing was refined at level 2 of 2: eroded by 99 px" in printed.out and "Warning" not in printed.err


def test_a_folder_is_filled_and_a_second_run_passes_over_what_is_there(folders, small_network, capsys, monkeypatch):
    on_a_console(monkeypatch)
    photos, masks, out = folders
    assert run(photos, masks, "-o", out) == 0
    assert sorted(p.name for p in out.iterdir()) == ["astronaut.jpg", "chelsea.PNG", "coffee.tif"]
    for name in ("chelsea.PNG", "coffee.tif"):
        where = changed(out / name, PHOTOS[name.partition(".")[0]])
        assert where[HOLE > 0].mean() > 0.9 and not where[HOLE == 0].any()
    printed = capsys.readouterr()
    assert printed.out.endswith("3 filled, 0 there already, 0 failed\n") and "photos: 100%" in printed.err
    assert len(small_network) == 1

    (out / "coffee.tif").unlink()
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert run(photos, masks, "-o", out) == 0
    printed = capsys.readouterr()
    assert f"chelsea.PNG: {out / 'chelsea.PNG'} is there already" in printed.out
    assert printed.out.endswith("1 filled, 2 there already, 0 failed\n")
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before and (out / "coffee.tif").exists()
    assert run(photos, masks, "-o", out, "--overwrite") == 0
    assert all((out / name).stat().st_mtime_ns > time for name, time in before.items())


def test_what_cannot_be_filled_is_reported_and_the_others_go_on(folders, small_network, capsys):
    photos, masks, out = folders
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "alone.png").write_bytes((photos / "chelsea.PNG").read_bytes())
    Image.fromarray(PHOTOS["coffee"]).convert("CMYK").save(photos / "print.tif")
    for name in ("broken", "print", "astronaut_mask"):
        Image.fromarray(HOLE).save(masks / f"{name}.png")
    for name in (".hidden.jpg", ".hidden.heic", "chelsea.xmp", "chelsea.cr2", "notes.txt"):  # not for this command
        (photos / name).touch()
    assert run(photos, masks, "-o", out) == 1
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if ": " in line and "%" not in line]
    assert [line.partition(":")[0] for line in said] == ["alone.png", "astronaut.jpg", "broken.jpg", "print.tif"]
    assert said[0].endswith(f"expected one mask in {masks}, alone.* or alone_mask.*; there is none")
    assert said[1].endswith("there is astronaut.png, astronaut_mask.png")
    assert "cannot be read as a picture" in said[2] and "has CMYK colors; expected RGB or gray" in said[3]
    assert printed.out.endswith("2 filled, 0 there already, 4 failed\n") and "Traceback" not in printed.err
    assert sorted(p.name for p in out.iterdir()) == ["chelsea.PNG", "coffee.tif"]
    assert run(photos, masks, "-o", out, "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 4


def test_pictures_that_are_not_taken_are_reported(folders, small_network, capsys):
    photos, masks, out = folders
    for name in ("a.BMP", "b.gif", "c.jxl", "d.cr2"):
        (photos / name).touch()
    for mask in (masks, masks / "coffee_mask.png"):  # a folder, or one for all
        assert run(photos, mask, "-o", out, "--quiet", "--overwrite") == 1
        said = capsys.readouterr().err.splitlines()
        taken = f"expected {', '.join(ENDINGS)}"
        assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"} <= set(ENDINGS)
        assert said == [
            f"a.BMP: is a picture that ends in .bmp; {taken}: save a copy as one of these first",
            f"b.gif: is a picture that ends in .gif; {taken}: save a copy as one of these first",
            f"c.jxl: is a picture that ends in .jxl; {taken}: save a copy as one of these first",
            f"d.cr2: is a picture that ends in .cr2; {taken}: develop it first",
        ]
    Image.fromarray(HOLE).save(photos / "coffee_mask.bmp")  # a mask beside its photo is none of them
    assert run(photos, photos, "-o", out, "--quiet") == 1
    assert "coffee_mask" not in capsys.readouterr().err


def test_damaged_exif_data_are_said_in_the_line(folders, tmp_path, small_network, capsys):
    _, masks, _ = folders
    Image.fromarray(PHOTOS["coffee"]).save(tmp_path / "junk.jpg", exif=b"Exif\0\0" + bytes(30))
    assert run(tmp_path / "junk.jpg", masks / "coffee_mask.png", "-o", tmp_path / "out.jpg") == 0
    printed = capsys.readouterr()
    assert "junk.jpg are damaged and were left out." in printed.out and "Warning" not in printed.err


def test_one_mask_for_all_and_masks_beside_the_photos(folders, small_network):
    photos, masks, out = folders
    (photos / "watermark.png").write_bytes((masks / "astronaut.png").read_bytes())
    assert run(photos, photos / "watermark.png", "-o", out) == 0
    assert sorted(p.name for p in out.iterdir()) == ["astronaut.jpg", "chelsea.PNG", "coffee.tif"]
    (photos / "watermark.png").unlink()
    for name in PHOTOS:
        (photos / f"{name}_mask.png").write_bytes((masks / "astronaut.png").read_bytes())
    beside = out.with_name("beside")
    assert run(photos, photos, "-o", beside) == 0
    assert sorted(p.name for p in beside.iterdir()) == ["astronaut.jpg", "chelsea.PNG", "coffee.tif"]


@pytest.mark.parametrize("at", ["in a photo", "between"])
def test_an_interrupted_folder_keeps_what_it_has_and_can_go_on(folders, small_network, monkeypatch, capsys, at):
    photos, masks, out = folders
    whole, calls = work.multiscale_inpaint, []

    def interrupt(step):
        raise KeyboardInterrupt

    def impatient(*args, callback, **settings):
        calls.append(args)
        if len(calls) == 2 and at == "between":
            raise KeyboardInterrupt
        return whole(*args, callback=interrupt if len(calls) == 2 else callback, **settings)

    monkeypatch.setattr(work, "multiscale_inpaint", impatient)
    assert run(photos, masks, "-o", out, "--report", out.parent.parent / "r.csv") == 130
    rows = report_of(out.parent.parent / "r.csv")
    assert [(Path(row["photo"]).name, row["state"]) for row in rows] == [
        ("astronaut.jpg", "filled"),
        ("chelsea.PNG", "stopped"),
    ]
    assert Path(rows[1]["output"]).name == ("chelsea.stopped.PNG" if at == "in a photo" else "chelsea.PNG")
    kept = {"in a photo": ["astronaut.jpg", "chelsea.stopped.PNG"], "between": ["astronaut.jpg"]}[at]
    assert sorted(p.name for p in out.iterdir()) == kept
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("Interrupted. The same command goes on where it was")
    assert "1 filled, 0 there already, 0 failed" in printed.out
    assert ("wrote" in printed.out.splitlines()[1]) == (at == "in a photo")
    assert run(photos, masks, "-o", out) == 0
    assert capsys.readouterr().out.endswith("2 filled, 1 there already, 0 failed\n")
    assert {"chelsea.PNG", "coffee.tif"} < {p.name for p in out.iterdir()}


def test_a_large_folder_that_is_made_anew_is_checked_in_time(tmp_path):
    """Each result with each photo would be 800 times 801 files: a quarter of a minute."""
    todo = [jobs.Job(tmp_path / f"{i}.png", tmp_path / "mask.png", tmp_path / f"out{i}.png") for i in range(800)]
    for job in todo:
        job.photo.touch()
        job.output.touch()
    started = time.perf_counter()
    assert not any(job.fault for job in jobs.checked(todo, overwrite=True))
    assert time.perf_counter() - started < 5


def test_a_photo_is_not_its_own_mask(folders, tmp_path, small_network, capsys):
    photo = folders[0] / "chelsea.PNG"
    (tmp_path / "link.png").symlink_to(photo)
    assert run(photo, tmp_path / "link.png", "-o", tmp_path / "out.png") == 1
    assert "link.png, the photo itself; expected another picture" in capsys.readouterr().err


def test_an_interruption_before_the_work_is_no_error(folders, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    photos, masks, out = folders
    monkeypatch.setattr(command, "load_network", interrupted)
    assert run(photos, masks, "-o", out) == 130 and not out.exists()


@pytest.mark.parametrize("after", [0.2, 0.4, 0.6, 0.9, 1.2])
@pytest.mark.parametrize("module", ["refine_lib", "refine_lib.evaluate"])
def test_an_interruption_while_it_is_loaded_is_no_error(folders, module, after):
    photos, masks, out = folders
    words = [photos, masks, "-o", out, *FAST] if module == "refine_lib" else ["scenes:64", "-o", out]
    line = [sys.executable, "-m", module, *words]
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listens)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in said


OF_THE_WORK = "a photo or a mask of the work; expected another name"
WRONG = {
    "photo": ("nowhere.jpg masks/astronaut.png -o out.jpg", "PHOTO is 'nowhere.jpg', which is not there"),
    "mask": ("photos/astronaut.jpg nowhere.png -o out.jpg", "MASK is 'nowhere.png', which is not there"),
    "a folder of masks": (
        "photos/astronaut.jpg masks -o out.jpg",
        "MASK is the folder 'masks' and PHOTO one photo; expected one",
    ),
    "the photo itself": (
        "photos/astronaut.jpg masks/astronaut.png -o photos/astronaut.jpg",
        "a photo or a mask of the work; expected",
    ),
    "its mask": ("photos/astronaut.jpg masks/astronaut.png -o masks/../masks/astronaut.png", "a photo or a mask of the work"),
    "there already": ("photos/astronaut.jpg masks/astronaut.png -o photos/coffee.tif", "is there already; expected a new name"),
    "ending": (
        "photos/astronaut.jpg masks/astronaut.png -o out.psd",
        "output is 'out.psd'; expected a name that ends in one of",
    ),
    "the photos' folder": ("photos masks -o photos", "OUT is 'photos', the folder of the photos or masks; expected another"),
    "the masks' folder": ("photos masks -o masks", "OUT is 'masks', the folder of the photos or masks"),
    "a file": ("photos masks -o masks/astronaut.png", "OUT is the file 'masks/astronaut.png' and PHOTO a folder"),
    "no photo": ("empty masks -o out", "PHOTO is 'empty', which holds no photo; expected files that end in .jpg"),
    "threshold": ("photos masks -o out --threshold 2", "threshold is 2.0; expected a share of white between 0 and 1"),
    "lr": ("photos masks -o out --lr 0", "lr is 0.0; expected a learning rate above 0"),
    "a soft mask that is dilated": ("photos masks -o out --soft-mask --dilation 3", "--soft-mask is True and --dilation is 3"),
    "preset": ("photos masks -o out --preset slow", "argument --preset: invalid choice: 'slow'"),
    "windows": ("photos masks -o out --windows some", "invalid choice: 'some'"),
    "nothing": (" masks -o out", "argument PHOTO: it is empty; expected a path"),
    "a link to nothing": ("photos masks -o dangling", "OUT is the file 'dangling' and PHOTO a folder"),
    "no place": ("photos masks -o /proc/out", "OUT is '/proc/out', a folder that cannot be made (No such file or directory)"),
    "no output": ("photos masks", "the following arguments are required: -o/--output"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named_before_the_network_is_loaded(folders, small_network, monkeypatch, capsys, case):
    photos, masks, _ = folders
    arguments, words = WRONG[case]
    (photos.parent / "empty").mkdir()
    monkeypatch.chdir(photos.parent)
    (photos.parent / "dangling").symlink_to("nothing")
    before = sorted(photos.parent.rglob("*"))
    assert run(*arguments.split(" ")) == 2
    assert words in capsys.readouterr().err and (not small_network or case == "no place")
    assert sorted(photos.parent.rglob("*")) == before


def test_a_network_that_cannot_be_had_is_a_sentence(folders, tmp_path, monkeypatch, capsys):
    photos, masks, _ = folders
    one = [photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "out.png"]
    for wrong, words in (
        (["--network", "nowhere.safetensors"], "name_or_path is 'nowhere.safetensors'; expected 'mini-lama'"),
        (["--network", "mini-lama", "--device", "abacus"], "device is 'abacus'; expected a device such as 'cpu'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command.main([*map(str, one), *wrong])
        assert words in capsys.readouterr().err

    def offline(*_, **__):
        raise ConnectionError("big-lama could not be fetched")

    monkeypatch.setattr(command, "load_network", offline)
    assert run(*one) == 1
    assert capsys.readouterr().err == "big-lama could not be fetched\n"


def test_no_result_replaces_another_photo_or_mask(tmp_path, small_network, capsys):
    photos, masks, out = tmp_path / "photos", tmp_path / "masks", tmp_path / "filled"
    for folder in (photos, masks, out):
        folder.mkdir()
    for name in "abc":
        Image.fromarray(PHOTOS["coffee"]).save((out if name == "c" else photos) / f"{name}.png")
        Image.fromarray(HOLE).save((out if name == "b" else masks) / f"{'a' if name == 'b' else name}.png")
    (masks / "b.png").symlink_to(out / "a.png")  # where the result of photo a would lie
    (photos / "c.png").symlink_to(out / "c.png")
    before = {path: path.read_bytes() for path in (out / "a.png", out / "c.png")}
    assert run(photos, masks, "-o", out, "--overwrite") == 1
    assert capsys.readouterr().err.count("which is a photo or a mask of the work; expected another name") == 2
    assert {path: path.read_bytes() for path in before} == before
    assert changed(out / "b.png", PHOTOS["coffee"])[HOLE > 0].mean() > 0.9


def test_names_that_the_console_cannot_print_stop_nothing(folders, tmp_path):
    photos, masks, out = folders
    (photos / "chelsea.PNG").rename(photos / "b_\u7167\u7247.png")
    (masks / "chelsea_mask.png").rename(masks / "b_\u7167\u7247.png")
    line = [sys.executable, "-m", "refine_lib", photos, masks, "-o", out, *FAST]
    done = subprocess.run(line, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert len(list(out.iterdir())) == 3 and b"b_\\u7167\\u7247.png: wrote" in done.stdout


@pytest.mark.parametrize("streams", [">/dev/full", "2>/dev/full", ">&- 2>&- <&-", "2>&- --quiet", "| head -c 1 >/dev/null"])
def test_a_console_that_takes_nothing_stops_nothing(folders, streams):
    photos, masks, out = folders
    words = shlex.join(map(str, [sys.executable, "-m", "refine_lib", photos, masks, "-o", out, *FAST]))
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"{words} {streams}"], capture_output=True, text=True)
    assert done.returncode == 0 and len(list(out.iterdir())) == 3, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_an_accent_may_be_written_in_two_ways(folders, small_network):
    photos, masks, out = folders
    (photos / "chelsea.PNG").rename(photos / "u\u0308.png")
    (masks / "chelsea_mask.png").rename(masks / "\u00fc_mask.png")
    assert run(photos, masks, "-o", out) == 0 and len(list(out.iterdir())) == 3


def test_a_result_that_came_meanwhile_is_there_already(folders, small_network, monkeypatch, capsys):
    photos, masks, out = folders

    def slow(photo, mask, output, *args, work=jobs.inpaint_photo, **settings):
        Image.fromarray(PHOTOS["coffee"]).save(output)  # another command is faster
        return work(photo, mask, output, *args, **settings)

    monkeypatch.setattr(jobs, "inpaint_photo", slow)
    assert run(photos, masks, "-o", out) == 0
    assert capsys.readouterr().out.count("came meanwhile") == 3


def test_extreme_numbers_are_named_or_cut(folders, tmp_path, small_network, capsys):
    photos, masks, _ = folders
    one = photos / "coffee.tif", masks / "coffee_mask.png", "-o"
    assert run(*one, tmp_path / "a.png", "--context", "1e300", "--windows", "always", "--soft-edge", "1e300") == 0
    assert run(*one, tmp_path / "b.png", "--erosion", "9" * 30) == 0
    assert run(*one, tmp_path / "c.png", "--smallest-scale", "9" * 400) == 2
    assert "--smallest-scale is 999" in capsys.readouterr().err
    assert run(*one, tmp_path / "d.png", "--dilation", "9" * 30) == 0  # the whole photo
    assert "The hole is the whole photo: there is nothing to go by." in capsys.readouterr().out


def test_quiet_keeps_back_what_libraries_print_of_a_damaged_file(folders, tmp_path):
    photos, masks, _ = folders
    Image.fromarray(PHOTOS["coffee"]).save(photos / "coffee.tif", compression="tiff_lzw")
    file = bytearray((photos / "coffee.tif").read_bytes())
    file[8:40] = bytes(32)  # the first codes of its pixels, on which libtiff has a word to say
    (photos / "coffee.tif").write_bytes(file)
    line = [sys.executable, "-m", "refine_lib", photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "a.png"]
    done = subprocess.run([*line, *FAST, "--quiet"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("coffee.tif: ") and "cannot be read as a picture" in done.stderr


def test_what_was_erased_from_a_photo_is_filled_without_a_mask(folders, tmp_path, small_network, capsys):
    photos, _, out = folders
    for path in photos.iterdir():
        path.unlink()
    for name in ("a.png", "b.webp"):
        erased = np.dstack([PHOTOS["coffee"], 255 - HOLE])
        Image.fromarray(erased).save(photos / name, **{"lossless": True, "exact": True} if name == "b.webp" else {})
    assert run(photos / "a.png", "-o", tmp_path / "a.png") == 0
    filled = np.asarray(Image.open(tmp_path / "a.png"))
    assert (filled[..., 3] == 255).all() and np.array_equal(filled[HOLE == 0, :3], PHOTOS["coffee"][HOLE == 0])
    (photos / "c.png").write_bytes((tmp_path / "a.png").read_bytes())  # opaque
    assert run(photos, "-o", out) == 1
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.webp"]
    assert "c.png: there is no mask, and" in (said := capsys.readouterr().err)
    assert "expected a mask, or a photo with an erased area" in said and "Traceback" not in said


def test_a_mask_may_stand_before_or_behind_the_options(folders, tmp_path, small_network):
    photo, mask = folders[0] / "coffee.tif", folders[1] / "coffee_mask.png"
    for i, words in enumerate([(photo, "-o", "OUT", mask), ("-o", "OUT", photo, mask), ("--invert", photo, mask, "-o", "OUT")]):
        out = tmp_path / f"{i}.png"
        assert run(*(out if word == "OUT" else word for word in words)) == 0
        assert changed(out, PHOTOS["coffee"])[HOLE == 0].any() == ("--invert" in words)


def test_a_preset_comes_from_the_command_line(folders, tmp_path, small_network):
    photo, mask = folders[0] / "coffee.tif", folders[1] / "coffee_mask.png"
    for name, words in {"fast": "--preset fast", "same": "--n-iters 5 --optimizer polyak", "paper": ""}.items():
        assert run(photo, mask, "-o", tmp_path / f"{name}.png", *words.split()) == 0
    fast, same, paper = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("fast", "same", "paper"))
    assert np.array_equal(fast, same) and not np.array_equal(fast, paper)


def test_the_gray_of_a_soft_mask_and_an_array_come_from_the_command_line(folders, tmp_path, small_network):
    photos, masks, out = folders
    soft = HOLE // 2
    np.save(tmp_path / "soft.npy", soft / 255)
    Image.fromarray(soft).save(tmp_path / "soft.png")
    for mask in ("soft.npy", "soft.png"):
        assert run(photos / "coffee.tif", tmp_path / mask, "-o", tmp_path / f"{mask}.png", "--soft-mask") == 0
    assert run(photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "hard.png") == 0
    a, b, hard = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("soft.npy", "soft.png", "hard"))
    assert np.array_equal(a, b) and np.array_equal(a[HOLE == 0], PHOTOS["coffee"][HOLE == 0])
    assert np.abs(a - (127 * hard + 128 * PHOTOS["coffee"].astype(int)) / 255)[HOLE > 0].max() <= 0.51
    np.save(masks / "coffee.npy", HOLE > 0)
    (masks / "coffee_mask.png").unlink()
    assert run(photos, masks, "-o", out) == 0 and changed(out / "coffee.tif", PHOTOS["coffee"]).any()


def test_each_of_a_photos_several_masks_is_a_job(folders, small_network, capsys):
    photos, masks, out = folders
    other = np.roll(HOLE, 20, 1)
    numbered = {"chelsea_mask001": HOLE, "chelsea_mask002": other, "u\u0308_mask000": HOLE}
    (photos / "coffee.tif").rename(photos / "\u00fc.tif")
    (masks / "coffee_mask.png").unlink()
    (masks / "chelsea_mask.png").unlink()
    for folder, name in ((masks, "apart"), (photos, "beside")):
        for mask, hole in numbered.items():
            Image.fromarray(hole).save(folder / f"{mask}.png")
        (photos / "astronaut_mask.png").write_bytes((masks / "astronaut.png").read_bytes())
        if folder is masks:
            (photos / "astronaut_mask.png").unlink()
        filled = out.with_name(name)
        assert run(photos, folder, "-o", filled) == 0
        assert sorted(p.name for p in filled.iterdir()) == ["astronaut.jpg", *(f"{mask}.png" for mask in numbered)]
        for mask, hole in numbered.items():
            where = changed(filled / f"{mask}.png", PHOTOS["chelsea" if "chelsea" in mask else "coffee"])
            assert where[hole > 0].mean() > 0.9 and not where[hole == 0].any()
        assert "chelsea_mask002.png: wrote" in capsys.readouterr().out
    assert run(photos, photos, "-o", out.with_name("beside")) == 0
    assert "0 filled, 4 there already, 0 failed" in capsys.readouterr().out


def test_a_numbered_mask_is_of_one_photo_and_of_one_result(folders, small_network, capsys):
    photos, masks, out = folders
    for path in (*photos.iterdir(), *masks.iterdir()):
        path.unlink()
    for name in ("a.png", "a.jpg", "b.png", "b_mask001.png"):
        Image.fromarray(PHOTOS["coffee"]).save(photos / name)
    for name in ("a_mask001.png", "b_mask.png", "b_mask001.png"):  # the last is that of the photo with its name
        Image.fromarray(HOLE).save(masks / name)
    assert run(photos, masks, "-o", out) == 1
    assert "a_mask001.png: has the result a_mask001.png, as a.jpg with a_mask001.png has; rename" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["a_mask001.png", "b.png", "b_mask001.png"]


def report_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_report_has_a_row_for_each_photo(folders, small_network, tiny_single, capsys):
    photos, masks, out = folders
    (photos / "broken, \u7167.jpg").write_bytes(b"no picture")
    (masks / "broken, \u7167.png").write_bytes((masks / "astronaut.png").read_bytes())
    assert run(photos, masks, "-o", out, "--report", out / "report.CSV", "--smallest-scale", 48, "--lr", 0.002) == 1
    rows = report_of(out / "report.CSV")
    assert [row["state"] for row in rows] == ["filled", "failed", "filled", "filled"]
    row = rows[3]
    assert (row["photo"], row["mask"], row["output"]) == tuple(
        map(str, (photos / "coffee.tif", masks / "coffee_mask.png", out / "coffee.tif"))
    )
    assert float(row["hole_percent"]) == pytest.approx(100 * (HOLE > 0).mean(), rel=1e-3) and row["levels"] == "2"
    same = dict(n_iters=1, smallest_scale=48, lr=0.002, progress=False)
    done = jobs.inpaint_photo(photos / "coffee.tif", masks / "coffee_mask.png", None, tiny_single, **same)
    [result] = done.results
    assert float(row["loss_before"]) == pytest.approx(result.losses[-1][0], rel=1e-3)
    assert float(row["loss_after"]) == pytest.approx(result.losses[-1][-1], rel=1e-3)
    assert float(row["seconds"]) > 0 and row["note"] == ""
    assert "cannot be read as a picture" in rows[1]["note"] and rows[1]["photo"].endswith("broken, \u7167.jpg")
    assert rows[1]["loss_before"] == rows[1]["seconds"] == ""
    *_, head, _, _, _, coffee, end = capsys.readouterr().out.splitlines()
    assert head.split() == "name state hole percent levels loss before loss after seconds note".split()
    assert coffee.split()[:4] == ["coffee.tif", "filled", row["hole_percent"], "2"] and end.startswith("3 filled")
    assert run(photos, masks, "-o", out, "--quiet", "--report", out / "again.csv") == 1
    assert [row["state"] for row in report_of(out / "again.csv")] == [
        "there already",
        "failed",
        "there already",
        "there already",
    ]
    assert capsys.readouterr().out == ""


def test_the_losses_of_several_windows_are_their_mean(folders, tmp_path, small_network, tiny_single, capsys):
    two = np.zeros((96, 128), np.uint8)
    two[8:16, 8:16] = two[70:90, 100:120] = 255
    Image.fromarray(two).save(tmp_path / "two.png")
    photo, settings = folders[0] / "chelsea.PNG", dict(windows="always", context=0, smallest_scale=20, erosion=3, lr=0.002)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert run(photo, tmp_path / "two.png", "-o", tmp_path / "a.png", "--report", tmp_path / "a.csv", *words) == 0
    [row] = report_of(tmp_path / "a.csv")
    done = jobs.inpaint_photo(photo, tmp_path / "two.png", None, tiny_single, n_iters=1, progress=False, **settings)
    refined = [[level for level in result.losses if level][-1] for result in done.results]
    assert len(done.windows) == len(refined) == 2
    assert float(row["loss_before"]) == pytest.approx(np.mean([level[0] for level in refined]), rel=1e-3)
    assert float(row["loss_after"]) == pytest.approx(np.mean([level[-1] for level in refined]), rel=1e-3)
    assert row["levels"] == str(max(result.n_levels for result in done.results))
    assert "name" not in capsys.readouterr().out  # a table of one row is none


def test_a_report_replaces_nothing_unless_it_may(folders, tmp_path, small_network, capsys):
    photos, masks, out = folders
    one = [photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "a.png"]
    (tmp_path / "photo.csv").symlink_to(photos / "coffee.tif")
    (tmp_path / "there.csv").write_text("mine")
    before = (photos / "coffee.tif").read_bytes()
    for report, words in (
        ("there.csv", "there.csv', which is there already; expected a new name"),
        ("photo.csv", "photo.csv', which is a photo or a mask of the work; expected another name"),
        ("report.txt", "report.txt'; expected a name that ends in one of .csv"),
        ("nowhere/r.csv", "nowhere/r.csv', whose folder is not there"),
        ("a.png/r.csv", "a.png/r.csv', whose folder is not there"),
    ):
        for more in [] if report == "there.csv" else [[], ["--overwrite"]]:
            assert run(*one, "--report", tmp_path / report, *more) == 2
            assert words in " ".join(capsys.readouterr().err.split())
    assert run(*one, "--report", tmp_path / "there.csv") == 2 and not small_network and not (tmp_path / "a.png").exists()
    assert (tmp_path / "there.csv").read_text() == "mine" and (photos / "coffee.tif").read_bytes() == before
    assert run(*one, "--report", tmp_path / "there.csv", "--overwrite", "--quiet") == 0
    assert [row["state"] for row in report_of(tmp_path / "there.csv")] == ["filled"]


def test_a_report_that_cannot_be_written_in_the_end_is_a_sentence(folders, tmp_path, small_network, monkeypatch, capsys):
    photos, masks, _ = folders

    def slow(*args, work=jobs.inpaint_photo, **settings):
        (tmp_path / "r.csv").write_text("mine")  # another command is faster
        return work(*args, **settings)

    monkeypatch.setattr(jobs, "inpaint_photo", slow)
    one = [photos / "coffee.tif", masks / "coffee_mask.png", "-o", tmp_path / "a.png", "--report", tmp_path / "r.csv"]
    assert run(*one) == 1 and (tmp_path / "a.png").exists() and (tmp_path / "r.csv").read_text() == "mine"
    assert "r.csv', which could not be written: " in capsys.readouterr().err


def test_the_help_says_what_is_needed_and_shows_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    told = capsys.readouterr().out
    for word in ("--report FILE.csv", "--soft-mask", "--invert", "[MASK]", "NAME_mask001.png", "MASK.npy", "erased"):
        assert word in told, word
    assert "mini-lama   a toy" in told and "python -m refine_lib beach.jpg beach_mask.png -o filled.jpg" in told


def test_the_command_as_a_process(folders, tmp_path):
    photos, masks, _ = folders
    line = [sys.executable, "-m", "refine_lib", photos / "astronaut.jpg", masks / "astronaut.png", "-o", tmp_path / "out.jpg"]
    done = subprocess.run([*line, *FAST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("astronaut.jpg: wrote ") and done.stderr == ""  # which is no console, so no bar
    assert changed(tmp_path / "out.jpg", PHOTOS["astronaut"])[HOLE > 0].mean() > 0.9


def test_the_same_command_goes_on_with_its_report(folders, small_network, capsys):
    photos, masks, out = folders
    words = photos, masks, "-o", out, "--report", out / "report.csv"
    out.mkdir(parents=True)
    assert run(*words) == 0
    before = report_of(out / "report.csv")
    next(out.glob("*.tif")).unlink()
    assert run(*words) == 0
    after = report_of(out / "report.csv")
    assert [row["state"] for row in after] == ["filled"] * 3 and sum(a == b for a, b in zip(after, before, strict=True)) == 2
    (out / "report.csv").write_text("mine")
    assert run(*words) == 2 and "report.csv', which is there already" in capsys.readouterr().err
    assert (out / "report.csv").read_text() == "mine"
