"""The loss, against loops in float64, and the random views."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.saliency.deepusps.augment import COLOUR, SMALLEST, augment
from castlit.saliency.deepusps.training import BETA_SQUARED, f_beta_loss, soft_f_beta


def plain_f_beta(prediction, target, beta_squared):
    """Precision, recall and F, pixel by pixel."""
    common = predicted = wanted = 0.0
    for p, t in zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True):
        common += p * t
        predicted += p
        wanted += t
    precision, recall = common / predicted, common / wanted
    return (1 + beta_squared) * precision * recall / (beta_squared * precision + recall)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), beta_squared=st.floats(0.05, 4))
def test_soft_f_beta(seed, beta_squared):
    rng = np.random.default_rng(seed)
    prediction, target = rng.uniform(0.01, 1, (2, 5, 6))
    found = soft_f_beta(torch.from_numpy(prediction), torch.from_numpy(target), beta_squared)
    assert float(found) == pytest.approx(plain_f_beta(prediction, target, beta_squared), rel=1e-9)


def test_loss_ignores_empty_maps():
    rng = np.random.default_rng(0)
    prediction, targets = rng.uniform(0, 1, (3, 1, 4, 5)), rng.uniform(0, 1, (3, 2, 4, 5))
    targets[1, 0] = 0
    wanted = [
        1 - plain_f_beta(prediction[i, 0], targets[i, k], BETA_SQUARED)
        for i in range(3)
        for k in range(2)
        if (i, k) != (1, 0)
    ]
    found = f_beta_loss(torch.from_numpy(prediction), torch.from_numpy(targets))
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-9)


def test_loss_limits():
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2, :2] = 1
    assert float(f_beta_loss(target, target)) == pytest.approx(0, abs=1e-6)
    assert float(f_beta_loss(1 - target, target)) == pytest.approx(1)
    prediction = torch.rand(1, 1, 4, 4, requires_grad=True)
    nothing = f_beta_loss(prediction, torch.zeros(1, 2, 4, 4))
    nothing.backward()
    assert nothing.item() == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def coordinates(count, size):
    """Images whose red and green channels are the pixel coordinates, and these as maps."""
    place = torch.linspace(0.3, 0.6, size)
    x, y = place.expand(size, size), place[:, None].expand(size, size)
    return torch.stack([x, y, torch.full_like(x, 0.45)]).expand(count, -1, -1, -1), torch.stack([x, y]).expand(
        count, -1, -1, -1
    )


def test_maps_follow_their_images():
    images, maps = coordinates(64, 32)
    views, targets = augment(images, maps, 24, torch.Generator().manual_seed(0))
    assert views.shape == (64, 3, 24, 24)
    assert targets.shape == (64, 2, 24, 24)
    for view, target in zip(views, targets, strict=True):
        for axis in range(2):
            # Colours change along a line, the same one for all pixels of a channel; places do not change at all.
            wanted, found = target[axis].flatten(), (view[axis] - view[2]).flatten()
            assert torch.corrcoef(torch.stack([wanted, found]))[0, 1].abs() > 0.999


def test_crops_and_flips():
    images, maps = coordinates(256, 64)
    _, targets = augment(images, maps, 48, torch.Generator().manual_seed(1))
    spread = (targets.amax((2, 3)) - targets.amin((2, 3))) / 0.3
    assert spread.min() > SMALLEST - 0.05
    assert spread.max() <= 1.001
    assert 0.7 < spread.mean() < 0.95
    mirrored = targets[:, 0, :, 0].mean(1) > targets[:, 0, :, -1].mean(1)
    assert 0.3 < mirrored.float().mean() < 0.7
    assert (targets[:, 1, 0].mean(1) < targets[:, 1, -1].mean(1)).all(), "no vertical flips"


def test_colour_range():
    images = torch.full((128, 3, 8, 8), 0.5)
    images[:, 0] = 0.8
    views, _ = augment(images, torch.zeros(128, 1, 8, 8), 8, torch.Generator().manual_seed(2))
    assert views.min() >= 0
    assert views.max() <= 1
    brightness = views.mean((1, 2, 3)) / images.mean((1, 2, 3))
    assert 1 - COLOUR - 0.01 < brightness.min() < 0.9
    assert 1.1 < brightness.max() < 1 + COLOUR + 0.01


def test_same_seed_same_views():
    images, maps = coordinates(4, 16)
    first, second = (augment(images, maps, 16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    other = augment(images, maps, 16, torch.Generator().manual_seed(4))
    assert not torch.equal(first[0], other[0])
