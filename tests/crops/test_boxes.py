from collections import Counter

import numpy as np
import pytest

from castlit.crops import sample_boxes
from castlit.utils.validation import InputError


def coverage(mask, box, within=None):
    region = np.zeros(mask.shape, bool)
    x1, y1, x2, y2 = within or (0, 0, mask.shape[1], mask.shape[0])
    region[y1:y2, x1:x2] = mask[y1:y2, x1:x2] != 0
    x1, y1, x2, y2 = box
    return region[y1:y2, x1:x2].sum() / region.sum()


def fraction(box, mask):
    return (box[2] - box[0]) * (box[3] - box[1]) / mask.size


def _two_blobs():
    mask = np.zeros((9, 11), np.uint8)
    mask[0:2, 0:3] = 1
    mask[5:9, 8:11] = 1
    return mask


def test_single_allowed_position():
    mask = np.zeros((200, 300), np.uint8)
    mask[50:150, 100:200] = 1
    scale = (100 * 100 / 60000, 100 * 100 / 60000)
    assert sample_boxes(mask, 1, 1.0, scale, (1.0, 1.0))[0] == (100, 50, 200, 150)


def test_one_pixel():
    assert sample_boxes(np.ones((1, 1))) == [(0, 0, 1, 1)] * 2
    assert sample_boxes(np.zeros((1, 1))) == [(0, 0, 1, 1)] * 2


def test_elongated_images_exceed_scale_first():
    # A box of ratio 4/3 on 30 × 400 is at most 40 × 30, a tenth of the image: below the scale's floor of 0.2.
    mask = np.zeros((30, 400), np.uint8)
    mask[10:20, 200:230] = 1
    relaxed = Counter()
    for x1, y1, x2, y2 in sample_boxes(mask, 20, rng=np.random.default_rng(0), relaxed=relaxed):
        assert (x2 - x1, y1, y2) == (40, 0, 30)
    assert relaxed == {"scale": 20}


def test_elongated_masks_exceed_ratio_next():
    # Full mask: 40 × 30 covers a tenth. The shortest box that covers a fifth is 80 × 30.
    relaxed = Counter()
    for x1, y1, x2, y2 in sample_boxes(np.ones((30, 400)), 20, rng=np.random.default_rng(0), relaxed=relaxed):
        assert (x2 - x1, y1, y2) == (80, 0, 30)
    for x1, y1, x2, y2 in sample_boxes(np.ones((400, 30)), 20, rng=np.random.default_rng(0), relaxed=relaxed):
        assert (x1, x2, y2 - y1) == (0, 30, 80)
    assert relaxed == {"ratio": 40}


def test_nearest_size_for_narrow_ranges():
    relaxed = Counter()
    boxes = sample_boxes(np.zeros((48, 64)), 40, ratio=(2**0.5, 2**0.5), rng=np.random.default_rng(0), relaxed=relaxed)
    # The best fractions for the root of two with numbers up to 64; equally good, as their product is 2.
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes} == {(41, 29), (58, 41)}
    for x1, y1, x2, y2 in sample_boxes(np.zeros((7, 11)), 5, scale=(0.5, 0.5), relaxed=relaxed):
        assert (x2 - x1, y2 - y1) == (6, 6)  # of 38.5 pixels; what is nearer, 5 · 8, is out of ratio
    assert relaxed == {"ratio": 40, "scale": 5}


def test_large_masks_exceed_a_low_scale():
    mask = np.ones((100, 100), np.uint8)
    relaxed = Counter()
    boxes = sample_boxes(mask, 10, 0.5, (0.1, 0.3), rng=np.random.default_rng(0), relaxed=relaxed)
    # The least square of 5000 pixels or more: the image is square.
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes} == {(71, 71)}
    assert relaxed == {"scale": 10}


def test_pair_constrains_the_second_box():
    mask = np.zeros((60, 60), np.uint8)
    mask[5:15, 5:15] = 1
    mask[45:55, 45:55] = 1
    apart = {"saliency": 0, "pair": 0}
    for constraint in apart:
        rng = np.random.default_rng(0)
        for _ in range(300):
            first, second = sample_boxes(mask, 2, 0.2, (0.2, 0.4), rng=rng, constraint=constraint)
            apart[constraint] += coverage(mask, second, within=first) < 0.2
    assert apart["pair"] == 0
    assert apart["saliency"] > 50


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.uint16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("min_coverage", [0.3, 1.0])
def test_masks_of_any_type(dtype, min_coverage):
    mask = np.zeros((20, 30), dtype)
    mask[4:9, 20:25] = np.array(-3.5 if dtype != np.uint16 else 300).astype(dtype)
    assert mask.any()
    same = (mask != 0).astype(np.uint8) * 255
    read_only = mask.copy()
    read_only.flags.writeable = False
    booleans = same.view(bool)  # stored as 255, which Pillow does
    layouts = (read_only, np.asfortranarray(mask), mask[::-1].copy()[::-1], mask.repeat(2, 1)[:, ::2], booleans)
    for layout in (mask, *layouts):
        drawn, expected = (
            sample_boxes(each, 5, min_coverage, (0.05, 0.3), rng=np.random.default_rng(3)) for each in (layout, same)
        )
        assert drawn == expected


def test_broadcast_mask():
    column = np.broadcast_to((np.arange(30) > 20)[:, None], (30, 40))
    for box in sample_boxes(column, 20, 0.7, rng=np.random.default_rng(0)):
        assert coverage(column, box) >= 0.7


def test_same_rng_gives_same_boxes():
    mask = _two_blobs().repeat(20, 0).repeat(20, 1)
    first, again = (sample_boxes(mask, 4, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert sample_boxes(mask, 4) != sample_boxes(mask, 4)


def test_large_images():
    mask = np.zeros((3000, 4000), np.uint8)
    mask[-3:, -5:] = 1
    for box in sample_boxes(mask, 2, 0.9, rng=np.random.default_rng(0)):
        assert coverage(mask, box) >= 0.9
        assert fraction(box, mask) >= 0.2
        assert 3 / 4 <= (box[2] - box[0]) / (box[3] - box[1]) <= 4 / 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((0, 4))}, "mask must be"),
        ({"mask": np.zeros((4, 4, 1))}, r"mask must be .* \(4, 4, 1\)"),
        ({"mask": [[1]]}, "mask must be .* list"),
        ({"count": 0}, "count"),
        ({"count": 1.5}, "count"),
        ({"min_coverage": -0.1}, "min_coverage"),
        ({"min_coverage": 1.1}, "min_coverage"),
        ({"min_coverage": float("nan")}, "min_coverage"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.5, 1.2)}, "scale"),
        ({"scale": 0.5}, "scale"),
        ({"ratio": (-1, 1)}, "ratio"),
        ({"ratio": (1, 2, 3)}, "ratio"),
        ({"constraint": "pairs"}, "did you mean 'pair'"),
        ({"law": "unifrom"}, "did you mean 'uniform'"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"mask": np.ones((5, 5)), **change}
    with pytest.raises(InputError, match=message):
        sample_boxes(**arguments)
