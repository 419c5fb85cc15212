import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.evaluation.backgrounds import Cut, box_area, mixed, variants_of
from castlit.evaluation.backgrounds.make import square
from castlit.evaluation.backgrounds.variants import tiled


@pytest.fixture
def cut():
    """Six by six pixels, each of its own number; the object is an L in the box (1, 2) to (3, 4)."""
    image = np.repeat(np.arange(1, 37, dtype=np.uint8).reshape(6, 6)[..., None], 3, 2)
    mask = np.zeros((6, 6), np.uint8)
    mask[2, 1] = mask[3, 1] = mask[3, 2] = 1
    return Cut(image, mask)


def test_variants_by_hand(cut):
    assert cut.box == (1, 2, 3, 4)
    assert box_area(cut) == 4 / 36
    made = variants_of(cut)
    assert np.flatnonzero(made["only_fg"][..., 0]).tolist() == [13, 19, 20]
    assert np.flatnonzero(made["no_fg"][..., 0] == 0).tolist() == [13, 19, 20]
    assert np.flatnonzero(made["only_bg_b"][..., 0] == 0).tolist() == [13, 14, 19, 20]
    np.testing.assert_array_equal(made["original"], cut.image)
    assert cut.image.min() == 1  # nothing was written into it


def test_tiled_box(cut):
    # The largest is to the right: columns 3 to 5, all rows. Column 1 takes 4, column 2 takes 5: (x - 3) mod 3.
    filled = tiled(cut)[..., 0]
    expected = cut.image[..., 0].copy()
    expected[2:4, 1] = cut.image[2:4, 4, 0]
    expected[2:4, 2] = cut.image[2:4, 5, 0]
    np.testing.assert_array_equal(filled, expected)


def test_box_that_fills_the_image(cut):
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[5, 5] = 1
    assert not tiled(Cut(cut.image, mask)).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_parts_add_up(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    mask = (rng.random((9, 7)) < 0.1).astype(np.uint8)
    mask[4, 3] = 1
    cut = Cut(image, mask)
    made = variants_of(cut)
    np.testing.assert_array_equal(made["only_fg"] + made["no_fg"], image)
    np.testing.assert_array_equal(mixed(cut, made["no_fg"]), image)
    x1, y1, x2, y2 = cut.box
    outside = np.ones((9, 7), bool)
    outside[y1:y2, x1:x2] = False
    for name in ("only_bg_b", "only_bg_t"):
        np.testing.assert_array_equal(made[name][outside], image[outside])
    if outside.any():
        # What fills the box is somewhere in the background.
        background = {tuple(pixel) for pixel in image[outside]}
        assert {tuple(pixel) for pixel in made["only_bg_t"][~outside]} <= background


@pytest.mark.parametrize(("x", "shown"), [(0, (0, 4)), (6, (4, 8)), (16, (12, 16)), (9, (7, 11))])
def test_square_follows_object(x, shown):
    image = np.repeat(np.arange(16, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    mask = np.zeros((4, 16), np.uint8)
    mask[1, max(0, min(x, 15) - 1) : x + 1] = 1
    assert square(image, mask, 4).image[0, :, 0].tolist() == list(range(*shown))
