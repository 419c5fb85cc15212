"""What all methods have in common, on images whose salient object is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.saliency.algorithms.registry import FLOORS, HANDCRAFTED, METHODS, shrink

each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_an_object_unlike_its_ground_is_found(name, red_on_green):
    image, inside = red_on_green
    found = METHODS[name](image)
    assert found.shape == inside.shape
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, pytest.approx(1, abs=1e-6))
    assert found[inside].mean() > 0.75
    assert found[~inside].mean() < 0.15


@each_method
def test_the_object_is_where_it_is_off_the_centre(name, blot):
    image, inside = blot((90, 120), (12, 14, 40, 44), (90, 90, 160), (230, 210, 60))
    found = METHODS[name](image)
    assert found[inside].mean() > found[~inside].mean() + 0.5


@each_method
def test_of_a_uniform_image_nothing_is_salient(name):
    assert not METHODS[name](np.full((40, 50, 3), 77, np.uint8)).any()


@each_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 2), (3, 200), (5, 4)])
def test_images_of_a_few_pixels_give_maps_of_their_shape(name, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = METHODS[name](image)
    assert found.shape == shape
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


@each_method
def test_the_same_image_gives_the_same_map(name, red_on_green):
    image, _ = red_on_green
    assert np.array_equal(METHODS[name](image), METHODS[name](image.copy()))


@pytest.mark.parametrize("name", HANDCRAFTED)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(8, 60), width=st.integers(8, 60))
def test_maps_of_noise_stay_in_range(name, seed, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = METHODS[name](image)
    assert found.shape == (height, width)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_object_that_touches_the_border_is_no_background_to_rbd(blot):
    """What sets boundary connectivity apart: MC takes everything at the border for ground."""
    image, inside = blot((90, 120), (40, 30, 75, 90), (60, 140, 70), (200, 60, 50))
    assert HANDCRAFTED["rbd"](image)[inside].mean() > 0.6


@pytest.mark.parametrize("name", FLOORS)
def test_floors_are_maps_too(name, red_on_green):
    found = FLOORS[name](red_on_green[0])
    assert found.shape == (90, 120)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_centre_gaussian_is_one_in_the_middle_and_falls_by_its_sigma():
    found = FLOORS["centre_gaussian"](np.zeros((101, 201, 3), np.uint8))
    assert found[50, 100] == 1
    assert found[50, 100 + 50] == pytest.approx(np.exp(-((50 / 201 / 0.25) ** 2) / 2), rel=1e-5)


def test_images_shrink_to_the_side_and_never_grow():
    assert shrink(np.zeros((640, 480, 3), np.uint8), 320).shape == (320, 240, 3)
    assert shrink(np.zeros((2, 1000, 3), np.uint8), 320).shape == (1, 320, 3)
    small = np.zeros((100, 90, 3), np.uint8)
    assert shrink(small, 320) is small
