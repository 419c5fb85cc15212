"""Images in memory: what is refused, and in which words."""

import numpy as np
import pytest
import torch

from castlit.data import ArraySource
from castlit.utils.validation import InputError

IMAGES, MASKS = np.zeros((4, 5, 6, 3), np.uint8), np.ones((4, 5, 6), np.uint8)


@pytest.mark.parametrize("masks", [None, MASKS, MASKS > 0])
def test_masks(masks):
    item = ArraySource(IMAGES, masks, np.arange(4)).read(2)
    assert item.label == 2
    assert item.image.shape == (5, 6, 3)
    if masks is None:
        assert item.mask is None
    else:
        assert item.mask.dtype == np.uint8
        assert item.mask.all()


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ((IMAGES / 255,), r"images must be \(N, H, W, 3\) of uint8; got \(4, 5, 6, 3\) of float64"),
        ((IMAGES[..., 0],), r"images must be .*; got \(4, 5, 6\) of uint8"),
        ((IMAGES.transpose(0, 3, 1, 2),), r"images must be .*; got \(4, 3, 5, 6\) of uint8"),
        ((torch.from_numpy(IMAGES),), r"images must be .*; got \(4, 5, 6, 3\) of torch.uint8"),
        ((IMAGES, MASKS[:3]), r"masks must be \(4, 5, 6\) of uint8 or booleans; got \(3, 5, 6\) of uint8"),
        ((IMAGES, MASKS / 2), r"masks must be .*; got \(4, 5, 6\) of float64"),
        ((IMAGES, MASKS, np.arange(3)), r"labels must be \(4,\) whole numbers; got \(3,\) of int64"),
    ],
)
def test_other_arrays(arrays, line):
    with pytest.raises(InputError, match=line):
        ArraySource(*arrays)
