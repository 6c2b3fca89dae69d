"""How far networks see and featuremaps reach, against kernels whose reach is known."""

import torch
from conftest import picture
from torch import nn

from refine_lib import load_network, random_scenes, split_network, stroke_masks
from refine_lib.networks.layers import trace
from refine_lib.networks.probe import device_of
from refine_lib.plots.reach import reached_by, seen_by, side_of


def blur_network(kernel_size, n_layers=1):
    """A network of box filters; it reads the image's three channels and leaves the mask."""
    layers = []
    for i in range(n_layers):
        layer = nn.Conv2d(4 if i == 0 else 3, 3, kernel_size, padding=kernel_size // 2, bias=False)
        layer.weight.data.zero_()
        for channel in range(3):
            layer.weight.data[channel, channel] = 1 / kernel_size**2
        layers.append(layer)
    return split_network(nn.Sequential(*layers), at=1 if n_layers > 1 else 0)


def test_a_pixel_sees_as_far_as_the_kernels_let_it():
    image = random_scenes(48, seed=1)
    seen = seen_by(blur_network(5), image, torch.zeros_like(image[:, :1]), 20, 30)
    wanted = torch.zeros(48, 48)
    wanted[18:23, 28:33] = 1
    assert torch.equal((seen > 1e-9).float(), wanted)
    assert side_of(seen, 20, 30, share=1.0) == 5
    twice = seen_by(blur_network(5, n_layers=2), image, torch.zeros_like(image[:, :1]), 20, 30)
    assert side_of(twice, 20, 30, share=1.0) == 9


def test_nothing_is_seen_in_the_hole():
    image, mask = random_scenes(48, seed=1), stroke_masks(48, seed=1)
    row, column = mask[0, 0].nonzero()[len(mask[0, 0].nonzero()) // 2].tolist()
    seen = seen_by(load_network(device="cpu"), image, mask, row, column)
    assert seen[mask[0, 0] > 0].abs().max() == 0 and seen.max() > 0


def test_an_element_of_z_reaches_what_changes_with_it(tiny):
    image, mask = picture(48, 40)
    z = tiny.front(image, mask)
    reach = reached_by(tiny, z, 2, 3)
    assert reach.shape == (48, 40)
    # The same derivative by a small step, along the direction that the seed gives.
    generator, moved = torch.Generator().manual_seed(0), [t.clone() for t in z]
    one_probe = reached_by(tiny, z, 2, 3, n_probes=1)
    for t in moved:
        t[0, :, 2, 3] += 1e-6 * (torch.randint(2, (t.shape[1],), generator=generator) * 2.0 - 1).double()
    change = (tiny.rear(tuple(moved))[..., :48, :40] - tiny.rear(z)) / 1e-6
    assert torch.allclose(one_probe, (change[0] ** 2).mean(0).sqrt(), rtol=1e-3, atol=1e-8)


def test_an_element_reaches_as_far_as_the_kernels_behind_it():
    image = random_scenes(48, seed=1)
    model = blur_network(5, n_layers=2)
    image = image.to(device_of(model, image.device))
    reach = reached_by(model, model.front(image, torch.zeros_like(image[:, :1])), 20, 30)
    assert side_of(reach, 20, 30, share=1.0) == 5


def test_a_square_holds_its_share_of_the_influence():
    influence = torch.zeros(31, 31)
    influence[10, 12], influence[10, 16], influence[25, 12] = 8.0, 1.5, 0.5
    assert side_of(influence, 10, 12, share=0.5) == 1
    assert side_of(influence, 10, 12, share=0.9) == 9
    assert side_of(influence, 10, 12, share=1.0) == 31


def test_the_embedded_networks_differ_in_how_far_they_see():
    image, mask = random_scenes(256, seed=3), stroke_masks(256, seed=3)
    sides, (row, column) = {}, (67, 118)
    assert mask[0, 0, row, column] == 1
    for name in ("mini-lama", "mini-conv"):
        model = load_network(name, device="cpu")
        sides[name] = side_of(seen_by(model, image, mask, row, column), row, column)
    assert sides["mini-lama"] > 2 * sides["mini-conv"]


def test_a_trace_tells_what_every_layer_gives(tiny):
    image, mask = picture(40, 48)
    layers = trace(tiny, image, mask)
    assert [layer.index for layer in layers] == list(range(len(tiny.layers)))
    assert layers[tiny.at - 1].shapes == tuple(tuple(t.shape) for t in tiny.front(image, mask))
    assert layers[tiny.at - 1].nbytes == tiny.front(image, mask).nbytes
    assert layers[-1].shapes == ((1, 3, 40, 48),)
    assert str(layers[0]).split()[:3] == ["0", "ReflectionPad2d", "4"]
