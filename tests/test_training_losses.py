"""What a training minimizes: the discriminator learns where the hole is fake, and neither network moves the other's weights."""

import pytest
import torch

from refine_lib.evaluate.scene_features import load_scene_features
from refine_lib.masks import paste
from refine_lib.workshop.losses import Discriminator, feature_distance, told_by, touched
from refine_lib.workshop.patterns import random_patterns
from refine_lib.workshop.recipes import Recipe
from refine_lib.workshop.sheets import random_holes
from refine_lib.workshop.training import Training, optimizers_of

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def pictures():
    with torch.device("cpu"):
        return random_patterns(64, 16, seed=11), random_holes(64, 16, seed=11)


def gray(image, mask):
    return paste(torch.full_like(image, 0.5), image, mask)


def test_patches_at_the_hole_are_those_around_it():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:32, 24:32] = 1
    assert torch.equal(touched(mask)[0, 0].nonzero().amin(0), torch.tensor([2, 2]))
    assert touched(mask).sum() == 9  # its own patch and its neighbors
    assert touched(0 * mask).sum() == 0


def test_a_discriminator_learns_to_tell_a_filled_hole(pictures):
    torch.manual_seed(0)
    image, mask = pictures
    discriminator = Discriminator()
    optimizers = optimizers_of(discriminator, 0.02)
    losses = []
    for _ in range(25):
        judged, _, _ = told_by(discriminator, image, gray(image, mask), mask)
        discriminator.zero_grad()
        judged.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(judged.item())
    assert losses[0] == pytest.approx(1.386, abs=0.05)  # chance: twice log 2
    assert losses[-1] < 0.9
    _, told_gray, matching = told_by(discriminator, image, gray(image, mask), mask)
    _, told_truth, none = told_by(discriminator, image, image, mask)
    assert told_gray > told_truth and matching > none == 0


def test_a_step_moves_each_network_by_its_own_loss_alone():
    recipe = Recipe("patterns", ngf=4, n_blocks=1, batch=4, adversarial=0.5, matching=1.0)
    training = Training(recipe)
    weights = [p.detach().clone() for p in training.discriminator.parameters()]
    image, mask = training.sheets.batch(0)
    training.train_step()
    assert any(not torch.equal(a, b) for a, b in zip(weights, training.discriminator.parameters(), strict=True))
    # The discriminator's gradient is that of its own loss at the pictures of this step, whatever the generator's weights are.
    told = [p.grad.clone() for p in training.discriminator.parameters()]
    twin = Training(recipe.changed(adversarial=0.01, matching=0.02, hole=7.0))
    twin.train_step()
    for a, b in zip(told, (p.grad for p in twin.discriminator.parameters()), strict=True):
        assert torch.equal(a, b)
    assert image.shape == (4, 3, 64, 64) and mask.sum() > 0


def test_features_see_what_differs_in_the_hole(pictures):
    image, mask = pictures
    features = load_scene_features()
    assert feature_distance(features, image, image) == 0
    near = paste(0.98 * image, image, mask)
    far = gray(image, mask)
    assert 0 < feature_distance(features, near, image) < feature_distance(features, far, image)
