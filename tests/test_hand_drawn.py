"""Holes drawn by hand in photos: where they lie, and what is drawn of them."""

import pytest
import torch

from refine_lib.workshop import hand_drawn
from refine_lib.workshop.hand_drawn import PLACES, Place


@pytest.mark.parametrize("title", PLACES)
def test_a_hole_lies_within_its_photo_and_its_square(title):
    place = PLACES[title]
    photo, mask = place.picture(), place.mask()
    assert photo.shape == (1, 3, *mask.shape[-2:]) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert (place.corners >= 0).all() and (place.corners < torch.tensor(mask.shape[-2:]).flip(0).numpy()).all()
    rows, columns = place.square()
    assert rows.stop - rows.start == columns.stop - columns.start
    inside = mask[..., rows, columns]
    assert inside.sum() == mask.sum() and 0.03 < inside.mean() < 0.5


def test_a_polygon_is_filled_with_its_corners():
    mask = Place("chelsea", "10,20 19,20 19,24 10,24").mask()
    assert mask.shape == (1, 1, 300, 451) and mask.sum() == 10 * 5 and mask[0, 0, 20:25, 10:20].all()


def test_each_way_leaves_the_rest_of_the_photo_and_gets_a_row(tiny_single):
    place = Place("chelsea", "100,100 180,100 180,180 100,180")
    filled = hand_drawn.fills(place, {"tiny": tiny_single}, n_iters=1)
    outside = place.mask().expand(-1, 3, -1, -1) == 0
    assert list(filled) == ["photo", "Telea", "plain, tiny", "refined, tiny"]
    photo = filled.pop("photo")
    for picture in filled.values():
        assert torch.equal(picture[outside], photo[outside]) and not torch.equal(picture, photo)
    figure = hand_drawn.draw({"tiny": tiny_single}, {"a face": place}, n_iters=1)
    assert len(figure.axes) == 4 and figure.axes[3].get_title("left") + figure.axes[3].get_title() == "refined, tiny"


def test_the_command_writes_the_figure_and_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hand_drawn.draw, "__defaults__", ({"a patch": PLACES["a patch"]},))
    monkeypatch.setattr("sys.argv", ["hand_drawn", str(tmp_path / "photos.png"), "--n-iters", "1", "--device", "cpu"])
    hand_drawn.main()
    assert (tmp_path / "photos.png").stat().st_size > 10_000
    for words, message in (
        ([str(tmp_path / "no" / "a.png")], "there is no folder"),
        (["a.png", "--networks", "nothing"], "--networks"),
    ):
        monkeypatch.setattr("sys.argv", ["hand_drawn", *words])
        with pytest.raises(SystemExit):
            hand_drawn.main()
        assert message in capsys.readouterr().err
