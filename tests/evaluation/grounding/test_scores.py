"""Grounding metrics on hand-made cases."""

import pytest
import torch

from castlit.evaluation import grounding
from castlit.utils.validation import InputError


def masks(*boxes, size=8):
    mask = torch.zeros(len(boxes), 1, size, size, dtype=torch.uint8)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        mask[i, 0, y1:y2, x1:x2] = 1
    return mask


def test_cam_equal_to_mask():
    mask = masks((0, 0, 4, 4), (2, 2, 6, 8))
    found = grounding(mask[:, 0].float(), mask)
    assert found.pointing == found.energy == found.iou == 1.0
    assert found.chance == pytest.approx((16 + 24) / 128)
    assert found.images == 2


def test_flat_cam():
    mask = masks((0, 0, 4, 4))
    found = grounding(torch.full((1, 8, 8), 3.0), mask)
    assert found.energy == pytest.approx(0.25)
    assert found.iou == pytest.approx(0.25)


def test_cam_elsewhere_and_zero_cam():
    cam = torch.zeros(2, 8, 8)
    cam[0, 7, 7] = 1
    found = grounding(cam, masks((0, 0, 4, 4), (0, 0, 4, 4)))
    assert (found.pointing, found.energy, found.iou) == (0, 0, 0)


def test_thresholds_by_hand():
    # Two levels, 1 on half of the mask and 0.5 on the rest of the image.
    cam = torch.full((1, 8, 8), 0.5)
    cam[0, 0:2, 0:4] = 1
    found = grounding(cam, masks((0, 0, 4, 4)))
    # Up to a threshold of 0.5 (10 of 19) everything is in; above it, the 8 hot pixels of the 16.
    assert found.iou == pytest.approx((10 * 16 / 64 + 9 * 8 / 16) / 19)
    assert found.energy == pytest.approx((8 + 4) / (8 + 28))


def test_images_without_mask():
    mask = masks((0, 0, 4, 4), (0, 0, 0, 0))
    assert grounding(torch.ones(2, 4, 4), mask).images == 1
    with pytest.raises(InputError, match="at least one image with a mask"):
        grounding(torch.ones(1, 4, 4), masks((0, 0, 0, 0)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_cams_that_are_none(value):
    """Energy would be NaN, or far outside of [0, 1]."""
    with pytest.raises(InputError, match="finite and not negative"):
        grounding(torch.full((1, 2, 2), value), masks((0, 0, 4, 4)))


def test_other_shapes():
    with pytest.raises(InputError, match="needs a CAM"):
        grounding(torch.ones(1, 2, 2), masks((0, 0, 4, 4), (0, 0, 4, 4)))
