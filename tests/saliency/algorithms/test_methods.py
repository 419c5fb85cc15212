"""All methods, on images with a known salient object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.saliency.algorithms.registry import BASELINES, HANDCRAFTED, METHODS, shrink

each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_object_is_found(name, red_on_green):
    image, inside = red_on_green
    found = METHODS[name](image)
    assert found.shape == inside.shape
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, pytest.approx(1, abs=1e-6))
    assert found[inside].mean() > 0.75
    assert found[~inside].mean() < 0.15


@each_method
def test_object_off_centre(name, blot):
    image, inside = blot((90, 120), (12, 14, 40, 44), (90, 90, 160), (230, 210, 60))
    found = METHODS[name](image)
    assert found[inside].mean() > found[~inside].mean() + 0.45


@each_method
def test_uniform_image(name):
    assert not METHODS[name](np.full((40, 50, 3), 77, np.uint8)).any()


@each_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (3, 200), (5, 4)])
def test_tiny_images(name, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = METHODS[name](image)
    assert found.shape == shape
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


@each_method
def test_maps_are_deterministic(name, red_on_green):
    image, _ = red_on_green
    assert np.array_equal(METHODS[name](image), METHODS[name](image.copy()))


@pytest.mark.parametrize("name", HANDCRAFTED)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(8, 60), width=st.integers(8, 60))
def test_range_on_noise(name, seed, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = METHODS[name](image)
    assert found.shape == (height, width)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_rbd_object_at_the_border(blot):
    """Boundary connectivity finds it; MC takes everything at the border for background."""
    image, inside = blot((90, 120), (40, 30, 75, 90), (60, 140, 70), (200, 60, 50))
    assert HANDCRAFTED["rbd"](image)[inside].mean() > 0.6


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_maps(name, red_on_green):
    found = BASELINES[name](red_on_green[0])
    assert found.shape == (90, 120)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_centre_gaussian():
    found = BASELINES["centre_gaussian"](np.zeros((101, 201, 3), np.uint8))
    assert found[50, 100] == 1
    assert found[50, 100 + 50] == pytest.approx(np.exp(-((50 / 201 / 0.25) ** 2) / 2), rel=1e-5)


def test_shrink():
    assert shrink(np.zeros((640, 480, 3), np.uint8), 320).shape == (320, 240, 3)
    assert shrink(np.zeros((2, 1000, 3), np.uint8), 320).shape == (1, 320, 3)
    small = np.zeros((100, 90, 3), np.uint8)
    assert shrink(small, 320) is small
