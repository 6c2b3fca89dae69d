"""The pictures say what they should: titles, holes, boxes, axes. What they look like is for the eye."""

import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from refine_lib import load_network, multiscale_inpaint, plots, random_scenes, split_network, stroke_masks
from refine_lib.photos.pixels import to_pixels
from refine_lib.workshop.benchmark_plots import plot_training


@pytest.fixture(autouse=True)
def without_a_screen():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def test_a_hole_is_colored_and_nothing_else():
    image, mask = random_scenes(32, seed=1), stroke_masks(32, seed=1)
    drawn = plots.show_picture(image, mask, "a scene").images[0].get_array()
    hole = mask[0, 0].numpy() > 0
    assert (drawn[hole] == plots.HOLE_COLOR).all()
    assert np.array_equal(drawn[~hole], to_pixels(image)[~hole])


def test_rows_of_scenes_show_every_picture_whole_and_near_the_hole():
    image, mask = random_scenes(64, batch=3, seed=1), stroke_masks(64, batch=3, seed=1)
    figure = plots.compare_rows({"input": image, "truth": image}, mask, caption="made by hand")
    assert len(figure.axes) == 3 * 4
    assert [ax.get_title(loc="left") for ax in figure.axes[:4]] == ["input", "", "truth", ""]
    top, left, tall, wide = plots.zoom_on_hole(mask[2:])
    zoom = figure.axes[-1].images[0].get_array()
    assert np.array_equal(zoom, to_pixels(image[2:, :, top : top + tall, left : left + wide]))
    assert "made by hand" in figure.get_supxlabel()


def test_rows_of_scenes_may_show_only_what_is_near_the_hole_with_a_line_around_it():
    image, mask = random_scenes(64, batch=2, seed=1), stroke_masks(64, batch=2, seed=1)
    figure = plots.compare_rows({"input": image, "truth": image}, mask, outlines=[None, mask], whole=False)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["input", "truth", "", ""]
    assert [len(ax.collections) for ax in figure.axes] == [1, 2, 1, 2], "a white line, and for an outline a pink one on it"
    top, left, tall, wide = plots.zoom_on_hole(mask[1:])
    shown = figure.axes[-1].images[0].get_array()
    assert np.array_equal(shown, to_pixels(image[1:, :, top : top + tall, left : left + wide]))


def test_a_row_takes_pictures_of_any_size():
    pictures = {f"{size} px": random_scenes(size, seed=1) for size in (16, 32)}
    holes = [None, stroke_masks(32, seed=1)]
    figure = plots.show_row(pictures, outlines=holes, squares=[(8, 8, 40), (16, 16, 5)], caption="made by hand")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["16 px", "32 px"]
    assert figure.axes[0].get_xlim() == (-0.5, 15.5)  # the square reaches beyond the picture, which stays as large
    outline = np.concatenate([path.vertices for path in figure.axes[1].collections[0].get_paths()])
    ys, xs = np.nonzero(to_pixels(holes[1]))
    assert np.allclose(outline.max(0), np.minimum(np.array([xs.max(), ys.max()]) + 0.5, 31), atol=0.5)
    assert "made by hand" in figure.get_supxlabel()


def test_what_the_loss_sees_has_a_color_of_its_own_and_a_small_square_no_cross():
    picture, mask = {"a scene": random_scenes(32, seed=1)}, stroke_masks(32, seed=1)
    ax = plots.show_row(picture, masks=[mask], squares=[(8, 8, 2)], mask_color=plots.SEEN_COLOR).axes[0]
    assert (ax.images[0].get_array()[mask[0, 0].numpy() > 0] == plots.SEEN_COLOR).all()
    assert not ax.lines and plots.show_row(picture, squares=[(8, 8, 20)]).axes[0].lines


def test_of_several_holes_the_zoom_shows_one_rather_than_what_lies_between():
    mask = torch.zeros(1, 1, 100, 100)
    mask[..., 10:20, 10:20] = mask[..., 80:95, 80:95] = 1
    top, left, tall, wide = plots.zoom_on_hole(mask, share=0.3)
    assert mask[..., top : top + tall, left : left + wide].sum() == 15 * 15 and (tall, wide) == (30, 30)
    top, left, tall, wide = plots.zoom_on_hole(mask, share=0.9)
    assert mask[..., top : top + tall, left : left + wide].sum() == mask.sum()


def test_more_than_six_pictures_come_in_several_rows():
    image, mask = random_scenes(64, seed=1), stroke_masks(64, seed=1)
    pictures = {f"{n}": image for n in range(7)}
    for figure, per in ((plots.compare(pictures, mask), 2), (plots.show_row(pictures), 1)):
        assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")] == list(pictures)
        assert len(figure.axes) == 8 * per and sum(len(ax.images) for ax in figure.axes) == 7 * per
    assert len(plots.compare(dict(list(pictures.items())[:6]), mask).axes) == 12, "six in one"
    assert len(plots.compare(pictures, mask, per_row=7).axes) == 14


def test_shares_have_one_gray_scale_and_a_frame():
    share = torch.full((4, 4), 0.48)
    figure = plots.show_shares({"half": share, "all": share * 2}, of_what="share", caption="made by hand")
    half, all_of_it, bar = figure.axes
    assert half.images[0].get_clim() == all_of_it.images[0].get_clim() == (0.4, 1) and half.spines["top"].get_visible()
    assert bar.get_ylabel() == "share" and "made by hand" in figure.get_supxlabel()


def test_no_influence_is_light_and_the_most_is_black():
    influence = torch.zeros(16, 16)
    influence[4, 5], influence[8, 8] = 0.005, 0.08
    figure = plots.show_influence({"far": influence, "none": influence * 0}, squares=[(4, 5, 3)] * 2, caption="made by hand")
    far, none = (ax.images[0].get_array()[..., 0] for ax in figure.axes)
    assert far[8, 8] == 0 and abs(2 * int(far[4, 5]) - int(far[0, 0])) <= 2
    assert (none == far[0, 0]).all() and far[0, 0] > 200
    assert "made by hand" in figure.get_supxlabel()


def test_a_grating_shows_at_its_frequency_with_its_amplitude():
    grating = (0.5 + 0.5 * torch.cos(2 * torch.pi * 0.25 * torch.arange(64))).expand(1, 3, 64, 64)
    ax = plots.plot_spectra({"full": grating, "half": grating[..., ::2] * 0.2})
    frequency, amplitude = ax.lines[0].get_data()
    assert frequency[amplitude.argmax()] == 0.25 and abs(amplitude.max() - 0.5) < 0.01
    frequency, amplitude = ax.lines[1].get_data()
    assert frequency[amplitude.argmax()] == 0.5


def test_the_cost_of_every_level_is_drawn(tiny):
    image, mask = random_scenes(64, seed=1).double(), stroke_masks(64, seed=1).double()
    result = multiscale_inpaint(image, mask, tiny, smallest_scale=32, n_iters=2, erosion=1, progress=False)
    time, by_pixels = plots.plot_cost(result)
    assert [len(line.get_xdata()) for line in time.lines] == [2, 4]
    last = sum(step.seconds for step in result.steps if step.level == 1)
    assert time.lines[1].get_ydata()[-1] == pytest.approx(last)
    of_a_pass, in_proportion = by_pixels.lines[1], by_pixels.lines[2]
    assert of_a_pass.get_xdata() == [64 * 64] and list(in_proportion.get_xdata()) == [32 * 32, 64 * 64]
    assert in_proportion.get_ydata()[1] == of_a_pass.get_ydata()[0] == pytest.approx(4 * in_proportion.get_ydata()[0])


def test_a_slow_descent_does_not_crush_the_others():
    right = plots.plot_descents({"fast": ([3, 1], [0, 2]), "slow": ([3, 2], [0, 50])})[1]
    assert right.get_xlim() == (0, pytest.approx(2.2))


def test_distances_that_are_all_above_the_truth_are_drawn_by_their_logarithm():
    left, right = plots.plot_set_distances({"Fréchet": {10: [3.0, 5.0], 100: [0.1]}, "kernel": {10: [-0.1, 0.2], 100: [0.0]}})
    assert left.get_yscale() == "log" and right.get_yscale() == "linear"
    assert {text.get_text() for text in right.get_legend().get_texts()} == {"a pair of sets", "mean", "the truth"}


def test_loss_and_error_are_drawn_from_zero_on():
    axes = plots.plot_loss_and_error({"a run": ([0.3, 0.2], [0.5, 0.4])})
    assert [ax.get_ylim()[0] for ax in axes] == [0, 0]
    assert [list(ax.lines[0].get_ydata()) for ax in axes] == [[0.3, 0.2], [0.5, 0.4]]


def test_the_curves_of_trainings_are_drawn(tmp_path):
    columns = 'step,pictures,minutes,hole L1,"hole L1, unseen",Telea\'s'
    (tmp_path / "net.csv").write_text(f"{columns}\n1,2000,3,0.2,0.15,0.12\n2,4000,6,0.1,0.09,0.12\n")
    ax = plot_training({"a network": tmp_path / "net.csv"})
    assert list(ax.lines[0].get_xdata()) == [2, 4] and list(ax.lines[0].get_ydata()) == [0.15, 0.09]
    assert list(ax.lines[1].get_ydata()) == [0.12, 0.12]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a network", "Telea's fill"]


def test_channels_of_a_featuremap_are_drawn(tiny):
    image, mask = random_scenes(64, seed=1).double(), stroke_masks(64, seed=1).double()
    z = tiny.front(image, mask)
    figure = plots.show_channels(z, n_channels=4, names=("local", "global"))
    assert len(figure.axes) == 8 and figure.axes[0].get_title(loc="left") == "local 0"
    last = figure.axes[-1].images[0].get_array()
    assert np.array_equal(last, z[1][0, -1].numpy())
    figure = plots.show_channels(z, n_channels=4, names=("local", "global"), picture=(image, mask))
    assert len(figure.axes) == 10 and figure.axes[0].images[0].get_array().shape == (64, 64, 3)


def test_a_caption_names_the_network_its_settings_and_where_it_was_computed():
    model = load_network("mini-lama", device="cpu")
    caption = r"mini-lama, seed 1, lr 0.005, CPU, \d+ threads?, torch \S+, refine_lib \d"
    assert re.match(caption, plots.made_with(model, seed=1, lr=0.005))
    assert plots.made_with(model, network="ours").startswith("network ours, CPU")
    nameless = split_network(model.layers, at=3, multiple=8)
    assert plots.made_with(nameless, seed=1).startswith("seed 1, CPU")
