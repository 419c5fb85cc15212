"""Images with a known salient object."""

import numpy as np
import pytest


def make_blot(shape, box, ground, colour, noise=6.0, seed=0):
    """A noisy image of one colour with a rectangle of another at (x1, y1, x2, y2), and the rectangle's mask."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), ground, np.float64)
    inside = np.zeros(shape, bool)
    x1, y1, x2, y2 = box
    inside[y1:y2, x1:x2] = True
    image[inside] = colour
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8), inside


@pytest.fixture(scope="session")
def blot():
    return make_blot


@pytest.fixture
def red_on_green():
    return make_blot((90, 120), (45, 30, 80, 62), (60, 140, 70), (200, 60, 50))
