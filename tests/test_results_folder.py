"""The folder of an evaluation, damaged, occupied and full; pictures with unusual names; a console with few letters."""

import json
import os
import random
import subprocess
import sys
import time
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fuzz.evaluation import OUTPUTS, RESULT, SETTINGS, WORDS, again, cases, finished, try_case
from PIL import Image

from refine_lib import random_scenes
from refine_lib.evaluate import evaluate
from refine_lib.evaluate.__main__ import main
from refine_lib.evaluate.methods import Method
from refine_lib.evaluate.pictures import Picture, fault_of, find_pictures, write_inputs, write_png
from refine_lib.evaluate.run import Damaged, picture_path
from refine_lib.photos.files import read_photo
from refine_lib.photos.pixels import load_photo, to_pixels
from refine_lib.whole import MACHINE, remove_leftovers, whole_file

pytest.importorskip("cv2", reason="OpenCV is in the extra [metrics]")
FAST = dict(size=64, features="scenes", progress=False)
TRIED = (  # each way that a run can end; tests/fuzz has the others
    "settings: a list",
    "settings: null",
    "row: cut off",
    "row: twice",
    "row: another's table",
    "row: without picture",
    "row: bits flipped 0",
    "kept picture: empty",
    "kept picture: another size",
    "table.md: a folder",
    "table.md: a pipe",
    "rows: an empty file",
    "pictures: an empty file",
    "kept picture: a folder",
    "all pictures are gone",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "r"
    return folder, finished(folder)


@pytest.mark.parametrize("name", TRIED)
def test_a_damaged_folder_gives_the_right_table_or_a_kind_error(made, tmp_path, name):
    said = try_case(*made, dict(cases(random.Random(0)))[name], tmp_path / "case")
    wanted = "expected" if name.startswith("settings") or ": a folder" in name or "pipe" in name or "file" in name else "anew"
    assert wanted in said or name == "all pictures are gone"


def test_a_folder_as_it_was_is_left_so_and_says_nothing(made):
    assert again(made[0]).new == 0


def test_a_damaged_row_is_kept_aside_and_named(made, tmp_path):
    evaluate("scenes:1", tmp_path, "thick", "telea", **FAST)
    row = next((tmp_path / "rows").iterdir())
    row.write_bytes(b"mine")
    with pytest.warns(Damaged, match=f"computed anew: .*{row.name} is damaged"):
        table = evaluate("scenes:1", tmp_path, "thick", "telea", **FAST)
    assert table.new == 1 and row.with_suffix(".damaged").read_bytes() == b"mine"


def test_a_picture_that_was_not_kept_is_kept_when_it_is_wanted(tmp_path):
    assert evaluate("scenes:2", tmp_path, "thick", "telea", keep=0, **FAST).new == 4
    table = evaluate("scenes:2", tmp_path, "thick", "telea", keep=1, **FAST)
    assert table.new == 2 and picture_path(tmp_path, "telea", "thick", Picture("scene-0000")).is_file()


def test_one_bit_anywhere_in_a_kept_picture_is_seen(tmp_path):
    path = tmp_path / "a.png"
    write_png(random_scenes(64, seed=1), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert fault_of(path, 64)
    path.write_bytes(whole)
    assert not fault_of(path, 64) and "64 px wide" in fault_of(path, 32)


def test_settings_that_are_not_ours_stop_the_writing_of_inputs_too(tmp_path):
    (tmp_path / "settings.json").write_bytes(SETTINGS["a list"])
    with pytest.raises(ValueError, match=r"settings.json' begins with b'\[1\]'; expected the settings of an evaluation"):
        write_inputs(find_pictures("scenes:1"), ["thick"], 64, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_damaged_inputs_are_written_anew_and_others_left(tmp_path):
    pictures = find_pictures("scenes:2")
    assert write_inputs(pictures, ["thick"], 64, 0, tmp_path) == []
    damaged, whole = (tmp_path / "images" / picture.file_name for picture in pictures)
    damaged.write_bytes(b"")
    before = whole.stat().st_mtime_ns
    assert write_inputs(pictures, ["thick"], 64, 0, tmp_path) == []
    assert load_photo(damaged).shape == (1, 3, 64, 64) and whole.stat().st_mtime_ns == before
    damaged.unlink()
    damaged.mkdir()
    with pytest.raises(FileExistsError, match="scene-0000.png' is a folder; expected a file or nothing there"):
        write_inputs(pictures, ["thick"], 64, 0, tmp_path)


# Parts of files


def test_only_parts_that_killed_processes_left_are_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    names = {
        "killed": f".{MACHINE}-{process.pid}-{'a' * 32}.part",
        "still written": f".{MACHINE}-{os.getpid()}-{'b' * 32}.part",
        "of another machine": f".{'0' * 8}-{process.pid}-{'c' * 32}.part",
        "of no name": f".{'d' * 32}.part",
        "mine": ".notes.part",
        "forgotten": f".{'e' * 32}.part",
        "a folder": f".{'f' * 32}.part",
    }
    for what, name in names.items():
        (tmp_path / name).mkdir() if what == "a folder" else (tmp_path / name).write_text(what)
    for what in ("mine", "forgotten", "a folder"):
        os.utime(tmp_path / names[what], (time.time() - 7200,) * 2)
    remove_leftovers(tmp_path)
    gone = {what for what, name in names.items() if not (tmp_path / name).exists()}
    assert gone == {"killed", "forgotten"}
    remove_leftovers(tmp_path / "nowhere")


def test_a_file_written_beside_what_a_killed_process_left_tidies_up(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".{MACHINE}-{process.pid}-{'a' * 32}.part").write_text("half")
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


FULL = """
import resource, sys
from pathlib import Path
import torch
from refine_lib.evaluate.__main__ import main
from refine_lib.photos.files import read_photo, write_photo
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
if sys.argv[2] == "photo":
    photo = read_photo(sys.argv[3])
    write_photo(photo.image, sys.argv[4], photo, overwrite=True)
else:
    main(sys.argv[2:])
"""


def with_files_of(n_bytes, *words):
    """The command in a process that can write no larger file, as on a full disk. Returns what it said last."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FULL, str(n_bytes), *map(str, words)], capture_output=True, text=True
    )
    assert ran.returncode
    return ran.stderr


@pytest.mark.parametrize(("n_bytes", "name"), [(10, "settings.json"), (1000, "scene-0000.png"), (9_000, "methods_thick.png")])
def test_a_full_disk_is_named_leaves_no_part_and_the_next_run_goes_on(made, tmp_path, n_bytes, name):
    said = with_files_of(n_bytes, *WORDS, "-o", tmp_path / "r")
    assert "Traceback" not in said and "File too large" in said and name in said
    assert not list(tmp_path.rglob(".*.part")) and not list(tmp_path.rglob(name))
    main([*WORDS, "-o", str(tmp_path / "r")])
    rows = pq.read_table(tmp_path / "r" / "rows.parquet")
    assert rows.select(RESULT).equals(made[1].rows.select(RESULT)) and all((tmp_path / "r" / n).is_file() for n in OUTPUTS)


def test_inputs_on_a_full_disk_are_named_and_go_on(tmp_path):
    words = [*WORDS, "-o", tmp_path / "r", "--inputs", tmp_path / "in"]
    said = with_files_of(1000, *words)
    assert "Traceback" not in said and "File too large" in said and "images/scene-0000.png" in said
    assert [path.name for path in (tmp_path / "in").rglob("*") if path.is_file()] == ["settings.json"]
    main([*map(str, words)])
    assert len(list((tmp_path / "in").rglob("*.png"))) == 4


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_photo_on_a_full_disk_stays_as_it_was(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    (tmp_path / f"out.{ending}").write_text("was there")
    said = with_files_of(1000, "photo", tmp_path / "in.png", tmp_path / f"out.{ending}")
    assert f"out.{ending}', which could not be written: " in said and "too large" in said.lower()
    assert (tmp_path / f"out.{ending}").read_text() == "was there" and len(list(tmp_path.iterdir())) == 2


# Pictures and names


def test_a_damaged_png_is_never_read_as_half_a_picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for place in range(100, len(whole) - 20, 1000):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        for read in (load_photo, read_photo):
            with pytest.raises(ValueError, match="a.png cannot be read as a picture"):
                read(path)


def test_pictures_with_unusual_names_are_measured_and_kept(tmp_path):
    names = [
        "new\nline.png",
        "x" * 250 + ".jpg",
        "本" * 80 + ".png",
        "dots..png",
        "$x_$.png",
        "a|b.png",
        os.fsdecode(b"\xff.png"),
    ]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(to_pixels(random_scenes(64, seed=1))).save(tmp_path / "in" / name)
    (tmp_path / "in" / os.fsdecode(b"bad\xff\n.png")).write_bytes(b"no picture")
    (tmp_path / "in" / "loop").symlink_to("..")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    out = tmp_path / "in" / "r"
    words = [str(tmp_path / "in"), *WORDS[1:], "-o", str(out), "--keep", "100"]
    main(words)
    rows = pq.read_table(out / "rows.parquet").to_pylist()
    assert len(rows) == 2 * 8 and [row["picture"] for row in rows if row["error"]] == ["bad\\udcff\n.png"] * 2
    assert len(list((out / "pictures" / "telea" / "thick").iterdir())) == 7
    assert "bad\\udcff .png, truth: ValueError" in (out / "table.md").read_text()
    assert all(line.startswith("%") for line in (out / "table.tex").read_text().split("\\end{tabular}\n")[1].splitlines())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Damaged)
        assert evaluate(tmp_path / "in", out, "thick", "telea", keep=100, **FAST).new == 0


@pytest.mark.parametrize("names", [("a.png", "A.png"), ("\u00e4.png", "a\u0308.png"), ("a.jpg", "A.jpg.png")])
def test_pictures_that_some_file_systems_keep_as_one_are_named(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    if len(list(tmp_path.iterdir())) == 2:  # a file system that keeps both
        with pytest.raises(ValueError, match="twice, or something like it; expected each name once"):
            find_pictures(tmp_path)


def test_inputs_and_results_among_the_pictures_are_no_pictures(tmp_path, capsys):
    write_png(random_scenes(64, seed=1), tmp_path / "a.png")
    words = [str(tmp_path), *WORDS[1:], "-o", str(tmp_path / "r"), "--inputs", str(tmp_path / "in")]
    for _ in range(2):
        main(words)
        assert "wrote 1 pictures" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no picture; expected files that end in .*, outside of the folder for results"):
        find_pictures(tmp_path, without=tmp_path)


# Arguments


def test_whole_numbers_of_any_type_are_taken(tmp_path):
    table = evaluate(
        "scenes:3", tmp_path, "thick", "telea", size=np.int64(64), seed=np.uint8(3), limit=np.int32(1), keep=np.uint16(1),
        workers=np.int8(0), features="scenes", progress=False,
    )  # fmt: skip
    assert table.new == 2 and not table.errors
    assert json.loads((tmp_path / "settings.json").read_text()) == {"size": 64, "seed": 3, "features": "scenes"}
    assert evaluate("scenes:1", tmp_path, "thick", "telea", seed=3, **FAST).new == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (dict(size=100_000), "size is 100000; expected 13377 or less"),
        (dict(size=True), "size is True; expected 16 or more"),
        (dict(size=64.0), "size is 64.0; expected 16 or more"),
        (dict(seed=10**400), "expected 9223372036854775808 or less"),
        (dict(workers=1_000_000), "workers is 1000000; expected .* or less"),
        (dict(keep=-1), "keep is -1; expected 0 or more"),
        (dict(limit=True), "limit is True; expected 1 or more"),
        (dict(images="scenes:0"), "images is 'scenes:0'; expected"),
        (dict(images="scenes:99999999999999"), "at most 1000000"),
        (dict(methods=[Method("truth")]), "each once and with a name of its own"),
        (dict(methods=[Method("..")]), "each once and with a name of its own"),
        (dict(methods=["folder:MAT:a", "folder:mat:b"]), "each once and with a name of its own"),
        (dict(methods=["folder:\udcff:a"]), "of Unicode text"),
    ],
)
def test_what_cannot_be_meant_is_named_before_any_work(tmp_path, wrong, said):
    with pytest.raises(ValueError, match=said):
        evaluate(**dict(images="scenes:1", output=tmp_path / "r", masks="thick", methods="telea", **FAST) | wrong)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_with_few_letters_stops_nothing(tmp_path, encoding):
    for name in ("猫.png", os.fsdecode(b"\xff.png")):
        write_png(random_scenes(64, seed=1), tmp_path / "in" / name)
    (tmp_path / "in" / "犬\n.png").write_bytes(b"no picture")
    command = [sys.executable, "-W", "ignore", "-m", "refine_lib.evaluate", str(tmp_path / "in"), *WORDS[1:]]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run([*command, "-o", str(tmp_path / "結果")], capture_output=True, env=environment)
    assert ran.returncode == 0, ran.stderr.decode("latin-1")
    assert b"\\u72ac" in ran.stdout and (tmp_path / "結果" / "table.md").is_file()


def test_results_made_elsewhere_that_are_damaged_are_rows_with_an_error(tmp_path):
    folder = tmp_path / "MAT" / "thick"
    write_png(torch.zeros(1, 3, 32, 32), folder / "scene-0000.png")
    (folder / "scene-0001.png").write_bytes(b"")
    os.mkfifo(folder / "scene-0002.png")
    (folder / "scene-0003.png").mkdir()
    table = evaluate("scenes:5", tmp_path / "r", "thick", ["telea", f"folder:MAT:{tmp_path}/MAT"], **FAST)
    errors = {row[0]: row[3] for row in table.errors}
    assert len(errors) == 5 and "expected 64 px wide" in errors["scene-0000"] and "cannot be read" in errors["scene-0001"]
    assert all(errors[f"scene-000{i}"].startswith("FileNotFoundError") for i in (2, 3, 4))
