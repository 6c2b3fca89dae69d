"""The pictures say what they should: titles, holes, boxes, axes. What they look like is for the eye."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from refine_lib import plots, random_scenes, stroke_masks


@pytest.fixture(autouse=True)
def without_a_screen():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def test_a_hole_is_coloured_and_nothing_else():
    image, mask = random_scenes(32, seed=1), stroke_masks(32, seed=1)
    drawn = plots.show_picture(image, mask, "a scene").images[0].get_array()
    hole = mask[0, 0].numpy() > 0
    assert (drawn[hole] == plots.HOLE_COLOUR).all()
    assert np.array_equal(drawn[~hole], plots.to_pixels(image)[~hole])


def test_rows_of_scenes_show_every_picture_whole_and_near_the_hole():
    image, mask = random_scenes(64, batch=3, seed=1), stroke_masks(64, batch=3, seed=1)
    figure = plots.compare_rows({"input": image, "truth": image}, mask, caption="made by hand")
    assert len(figure.axes) == 3 * 4
    assert [ax.get_title(loc="left") for ax in figure.axes[:4]] == ["input", "", "truth", ""]
    top, left, tall, wide = plots.zoom_on_hole(mask[2:])
    zoom = figure.axes[-1].images[0].get_array()
    assert np.array_equal(zoom, plots.to_pixels(image[2:, :, top : top + tall, left : left + wide]))
    assert "made by hand" in figure.get_supxlabel()


def test_a_row_takes_pictures_of_any_size():
    pictures = {f"{size} px": random_scenes(size, seed=1) for size in (16, 32)}
    figure = plots.show_row(pictures, squares=[(8, 8, 40), (16, 16, 5)], spectra=True)
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["16 px", "32 px"]
    assert figure.axes[0].get_xlim() == (-0.5, 15.5)  # the square reaches beyond the picture, which stays as large
    assert figure.axes[2].get_xlabel() == "cycles per pixel"


def test_a_grating_shows_at_its_frequency():
    grating = torch.cos(2 * torch.pi * 0.25 * torch.arange(64)).expand(1, 3, 64, 64)
    drawn = plots.show_spectrum(grating).images[0].get_array()
    row, column = np.unravel_index(np.argmax(drawn), drawn.shape)
    assert row == 32 and abs(abs(column - 32) - 16) <= 1


def test_the_curves_of_trainings_are_drawn(tmp_path):
    (tmp_path / "net.csv").write_text("steps,pictures,seconds,hole_l1,hole_l1_unseen\n1,2000,3,0.2,0.15\n2,4000,6,0.1,0.09\n")
    ax = plots.plot_training({"a network": tmp_path / "net.csv"})
    assert ax.lines[0].get_xdata().tolist() == [2, 4] and ax.lines[0].get_ydata().tolist() == [0.15, 0.09]
    assert ax.get_legend().get_texts()[0].get_text() == "a network"


def test_channels_of_a_featuremap_are_drawn(tiny):
    image, mask = random_scenes(64, seed=1).double(), stroke_masks(64, seed=1).double()
    z = tiny.front(image, mask)
    figure = plots.show_channels(z, n_channels=4, names=("local", "global"))
    assert len(figure.axes) == 8 and figure.axes[0].get_title(loc="left") == "local 0"
    last = figure.axes[-1].images[0].get_array()
    assert np.array_equal(last, z[1][0, -1].numpy())
