"""pointing_hits against a loop in float64: the maximum of the CAM enlarged to the mask's size."""

import numpy as np
import pytest
import torch

from castlit.attention import enlarge_cams, pointing_hits
from castlit.evaluation.grounding import image_scores
from castlit.utils.validation import InputError


def weights(cells, pixels):
    """Bilinear weights (pixels, cells): a pixel's centre lies between the centres of two cells, or at the border."""
    found = np.zeros((pixels, cells))
    for pixel in range(pixels):
        place = min(max((pixel + 0.5) * cells / pixels - 0.5, 0), cells - 1)
        low = min(int(place), cells - 1)
        found[pixel, low] += 1 - (place - low)
        found[pixel, min(low + 1, cells - 1)] += place - low
    return found


def hit_by_hand(cam, mask):
    large = weights(cam.shape[0], mask.shape[0]) @ cam @ weights(cam.shape[1], mask.shape[1]).T
    if large.max() <= 0:
        return False
    peak = np.isclose(large, large.max(), rtol=1e-5, atol=0)
    return bool(2 * (peak & (mask > 0)).sum() >= peak.sum())


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
    cam = np.maximum(rng.normal(size=(64, *grid)), 0) + 1e-3
    mask = (rng.random((64, 1, *size)) > 0.5).astype(dtype)
    expected = [hit_by_hand(g, m[0]) for g, m in zip(cam, mask, strict=True)]
    assert len(set(expected)) == 2
    assert pointing_hits(torch.from_numpy(cam), torch.from_numpy(mask)).tolist() == expected


def test_single_cells():
    """Inside, the maximum is at the cell's centre; at the border it is the outer half of the cell."""
    cams = torch.eye(35).view(35, 5, 7)
    mask = torch.zeros(35, 1, 55, 77, dtype=torch.uint8)  # 11 x 11 pixels for a cell, the centre is the sixth
    for cell in range(35):
        row, column = divmod(cell, 7)
        top = slice(0, 6) if row == 0 else slice(49, 55) if row == 4 else slice(11 * row + 5, 11 * row + 6)
        left = slice(0, 6) if column == 0 else slice(71, 77) if column == 6 else slice(11 * column + 5, 11 * column + 6)
        mask[cell, 0, top, left] = 255
    assert pointing_hits(cams, mask).all()
    assert not pointing_hits(cams, 255 - mask).any()


def test_same_maximum_as_the_other_metrics():
    """A weak cell between strong ones: enlarged, the maximum lies between the strong cells, not in their centres."""
    cam = torch.tensor([[[0.0, 0, 0, 0], [0, 1, 0.99, 0], [0, 1, 0.99, 0], [0, 0, 0, 0]]])
    large = enlarge_cams(cam, (16, 16))
    inside = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    inside[0, 0] = (large[0] >= large.max() * 0.9999).byte()
    assert pointing_hits(cam, inside).all()
    found = image_scores(cam, inside)
    assert found.pointing.tolist() == [1.0]
    mass = (large * inside[:, 0]).sum() / large.sum()
    assert found.energy.tolist() == pytest.approx([float(mass)])


def test_between_two_pixels():
    cam = torch.zeros(1, 3, 3)
    cam[0, 1, 1] = 1  # its centre is between the pixels 5 and 6 of 12
    mask = torch.zeros(4, 1, 12, 12, dtype=torch.uint8)
    for count in range(4):
        mask[count, 0, [5, 5, 6][:count], [5, 6, 5][:count]] = 1
    assert pointing_hits(cam.expand(4, -1, -1), mask).tolist() == [False, False, True, True]  # half of the four


def test_scale_does_not_matter():
    cams, masks = torch.rand(20, 4, 4), torch.rand(20, 1, 16, 16) > 0.5
    expected = image_scores(cams, masks)
    for scale in (1e-30, 3e38):
        for name, metric in image_scores(cams * scale, masks)._asdict().items():
            torch.testing.assert_close(metric, getattr(expected, name))


def test_dead_cam_and_empty_mask_miss():
    cam = torch.stack([torch.zeros(4, 4), torch.ones(4, 4), torch.rand(4, 4)])
    mask = torch.ones(3, 1, 16, 16)
    mask[2] = 0
    assert pointing_hits(cam, mask).tolist() == [False, True, False]


def test_shapes_are_checked():
    with pytest.raises(InputError, match="masks"):
        pointing_hits(torch.rand(2, 4, 4), torch.ones(2, 16, 16))
