"""pointing_hits against a loop: the pixel at the centre of the strongest cell."""

import numpy as np
import pytest
import torch

from castlit.attention import pointing_hits
from castlit.utils.validation import InputError


def hit_by_hand(cam, mask):
    (h, w), (height, width) = cam.shape, mask.shape
    if cam.max() <= 0:
        return False
    row, column = np.unravel_index(cam.argmax(), cam.shape)
    return bool(mask[int((row + 0.5) / h * height), int((column + 0.5) / w * width)])


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((7, 7), (224, 224)),
        ((5, 7), (33, 50)),
        ((7, 7), (3, 4)),
        ((4, 4), (4, 4)),
        ((1, 1), (9, 9)),
        ((8, 8), (12, 20)),
    ],
)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_equals_loop(grid, size, dtype):
    rng = np.random.default_rng(0)
    cam = np.maximum(rng.normal(size=(64, *grid)), 0)
    mask = (rng.random((64, 1, *size)) > 0.5).astype(dtype)
    expected = [hit_by_hand(g, m[0]) for g, m in zip(cam, mask, strict=True)]
    assert len(set(expected)) == 2
    assert pointing_hits(torch.from_numpy(cam), torch.from_numpy(mask)).tolist() == expected


def test_each_cell_points_to_its_centre():
    cams = torch.eye(35).view(35, 5, 7)
    mask = torch.zeros(35, 1, 50, 70, dtype=torch.uint8)
    for cell in range(35):
        mask[cell, 0, 10 * (cell // 7) + 5, 10 * (cell % 7) + 5] = 255
    assert pointing_hits(cams, mask).all()
    assert not pointing_hits(cams, mask.roll(1, dims=3)).any()


def test_dead_cam_and_empty_mask_miss():
    cam = torch.stack([torch.zeros(4, 4), torch.ones(4, 4), torch.rand(4, 4)])
    mask = torch.ones(3, 1, 16, 16)
    mask[2] = 0
    assert pointing_hits(cam, mask).tolist() == [False, True, False]


def test_shapes_are_checked():
    with pytest.raises(InputError, match="masks"):
        pointing_hits(torch.rand(2, 4, 4), torch.ones(2, 16, 16))
