import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from castlit.crops import sample_boxes
from castlit.crops.coverage import CoverageTable
from castlit.crops.sizes import SizeRange
from castlit.nn.checks import InputError

SCALES = [(0.2, 1.0), (0.08, 1.0), (0.3, 0.5), (0.5, 0.5), (0.9, 1.0), (0.01, 0.05)]
RATIOS = [(3 / 4, 4 / 3), (1.0, 1.0), (0.5, 2.0), (2.0, 3.0)]


@st.composite
def masks(draw, longest=40):
    height, width = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    kind = draw(st.sampled_from(["blobs", "corner", "full", "noise", "empty"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.zeros((height, width), np.uint8)
    if kind == "blobs":
        for _ in range(int(rng.integers(1, 5))):
            y, x = int(rng.integers(height)), int(rng.integers(width))
            mask[y : y + int(rng.integers(1, height + 1)), x : x + int(rng.integers(1, width + 1))] = 255
    elif kind == "corner":
        mask[-1, -1] = 1
    elif kind == "full":
        mask[:] = 7
    elif kind == "noise":
        mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    return mask


def coverage(mask, box, within=None):
    region = np.zeros(mask.shape, bool)
    x1, y1, x2, y2 = within or (0, 0, mask.shape[1], mask.shape[0])
    region[y1:y2, x1:x2] = mask[y1:y2, x1:x2] != 0
    x1, y1, x2, y2 = box
    return region[y1:y2, x1:x2].sum() / region.sum()


def is_allowed(box, shape, scale, ratio):
    """Whether some real size that rounds to the box's lies within scale and ratio."""
    width, height = box[2] - box[0], box[3] - box[1]
    area = shape[0] * shape[1]
    low_w, low_h = (width - 0.5 if width > 1 else 0), (height - 0.5 if height > 1 else 0)
    high_w, high_h = width + 0.5, height + 0.5
    scale_ok = low_w * low_h <= scale[1] * area and high_w * high_h >= scale[0] * area
    ratio_ok = low_w / high_h <= ratio[1] and (low_h == 0 or high_w / low_h >= ratio[0])
    return scale_ok and ratio_ok


def allowed_sizes(shape, scale, ratio):
    sizes = set()
    for area in np.linspace(*scale, 60) * shape[0] * shape[1]:
        for r in np.geomspace(*ratio, 60):
            width, height = max(1, round(math.sqrt(area * r))), max(1, round(math.sqrt(area / r)))
            if width <= shape[1] and height <= shape[0]:
                sizes.add((width, height))
    return sizes


def any_allowed_box_covers(mask, min_coverage, scale, ratio):
    for width, height in allowed_sizes(mask.shape, scale, ratio):
        for y in range(mask.shape[0] - height + 1):
            for x in range(mask.shape[1] - width + 1):
                if coverage(mask, (x, y, x + width, y + height)) >= min_coverage:
                    return True
    return False


@settings(max_examples=400, deadline=None)
@given(
    mask=masks(),
    min_coverage=st.sampled_from([0.0, 0.2, 0.29, 0.5, 0.9, 1.0]),
    scale=st.sampled_from(SCALES),
    ratio=st.sampled_from(RATIOS),
    constraint=st.sampled_from(["saliency", "pair"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_boxes_lie_inside_and_always_cover(mask, min_coverage, scale, ratio, constraint, seed):
    boxes = sample_boxes(mask, 3, min_coverage, scale, ratio, rng=np.random.default_rng(seed), constraint=constraint)
    assert len(boxes) == 3
    for box in boxes:
        x1, y1, x2, y2 = box
        assert all(type(value) is int for value in box)
        assert 0 <= x1 < x2 <= mask.shape[1]
        assert 0 <= y1 < y2 <= mask.shape[0]
        if mask.any():
            assert coverage(mask, box) >= min_coverage
            if constraint == "pair" and min_coverage > 0:
                assert box == boxes[0] or coverage(mask, box, within=boxes[0]) >= min_coverage


@settings(max_examples=150, deadline=None)
@given(
    mask=masks(longest=14),
    min_coverage=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    scale=st.sampled_from(SCALES),
    ratio=st.sampled_from(RATIOS),
    seed=st.integers(0, 2**32 - 1),
)
def test_scale_and_ratio_hold_wherever_they_can(mask, min_coverage, scale, ratio, seed):
    needed = min_coverage if mask.any() else 0.0
    if needed == 0:
        feasible = bool(allowed_sizes(mask.shape, scale, ratio))
    else:
        feasible = any_allowed_box_covers(mask, needed, scale, ratio)
    if feasible:
        for box in sample_boxes(mask, 2, min_coverage, scale, ratio, rng=np.random.default_rng(seed)):
            assert is_allowed(box, mask.shape, scale, ratio)


def _two_blobs():
    mask = np.zeros((9, 11), np.uint8)
    mask[0:2, 0:3] = 1
    mask[5:9, 8:11] = 1
    return mask


@pytest.mark.parametrize("min_coverage", [0.2, 0.4, 0.5])
def test_position_is_uniform_among_all_that_satisfy(min_coverage):
    mask = _two_blobs()
    scale, ratio = (20 / 99, 20 / 99), (5 / 4, 5 / 4)
    valid = [
        (x, y, x + 5, y + 4) for y in range(6) for x in range(7) if coverage(mask, (x, y, x + 5, y + 4)) >= min_coverage
    ]
    rng = np.random.default_rng(1)
    draws = [sample_boxes(mask, 1, min_coverage, scale, ratio, rng=rng)[0] for _ in range(300 * len(valid))]
    counts = [draws.count(box) for box in valid]
    assert sum(counts) == len(draws)
    assert len(valid) > 1
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_single_valid_position_is_found():
    mask = np.zeros((200, 300), np.uint8)
    mask[50:150, 100:200] = 1
    scale = (100 * 100 / 60000, 100 * 100 / 60000)
    assert sample_boxes(mask, 1, 1.0, scale, (1.0, 1.0))[0] == (100, 50, 200, 150)


def test_sizes_are_torchvisions_without_a_constraint():
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    image = torch.empty(3, 200, 260)
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    rng = np.random.default_rng(0)
    ours = [sample_boxes(np.zeros((200, 260)), 1, rng=rng)[0] for _ in range(3000)]
    for a, b in (
        ([w * h for _, _, h, w in theirs], [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in ours]),
        ([w / h for _, _, h, w in theirs], [(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in ours]),
        ([j for _, j, _, _ in theirs], [x1 for x1, _, _, _ in ours]),
    ):
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_areas_stay_uniform_among_those_that_can_cover():
    # All the mask, so 1 × 1 boxes up to the whole: only areas of at least 0.6 can do.
    rng = np.random.default_rng(0)
    mask = np.ones((100, 100), np.uint8)
    areas = [
        (x2 - x1) * (y2 - y1) / 10000
        for _ in range(800)
        for x1, y1, x2, y2 in sample_boxes(mask, 1, 0.6, (0.2, 1.0), (1.0, 1.0), rng=rng)
    ]
    assert min(areas) >= 0.6
    assert stats.kstest(areas, stats.uniform(0.6, 0.4).cdf).pvalue > 1e-3


def test_the_search_for_sizes_draws_uniformly_too():
    # So little chance of a valid size that the random draws fail and the search decides.
    rng = np.random.default_rng(0)
    mask = np.ones((100, 100), np.uint8)
    boxes = [sample_boxes(mask, 1, 0.985, (0.2, 1.0), (1.0, 1.0), rng=rng)[0] for _ in range(200)]
    assert {box[2] - box[0] for box in boxes} == {100}  # 99 × 99 covers only 0.9801
    mask = np.ones((1000, 1000), np.uint8)
    sides = [
        x2 - x1 for _ in range(300) for x1, _, x2, _ in sample_boxes(mask, 1, 0.98, (0.2, 1.0), (1.0, 1.0), rng=rng)
    ]
    assert min(sides) == 990
    assert stats.kstest(np.square(sides) / 1e6, stats.uniform(0.98, 0.02).cdf).pvalue > 1e-4


def test_one_pixel():
    assert sample_boxes(np.ones((1, 1))) == [(0, 0, 1, 1)] * 2
    assert sample_boxes(np.zeros((1, 1))) == [(0, 0, 1, 1)] * 2


def test_elongated_images_give_up_scale_first():
    # A box of ratio 4/3 on 30 × 400 is at most 40 × 30, a tenth of the image: below the scale's floor of 0.2.
    mask = np.zeros((30, 400), np.uint8)
    mask[10:20, 200:230] = 1
    for x1, y1, x2, y2 in sample_boxes(mask, 20, rng=np.random.default_rng(0)):
        assert (x2 - x1, y1, y2) == (40, 0, 30)


def test_elongated_masks_give_up_ratio_next():
    # Full mask: 40 × 30 covers a tenth. The shortest box that covers a fifth is 80 × 30.
    for x1, y1, x2, y2 in sample_boxes(np.ones((30, 400)), 20, rng=np.random.default_rng(0)):
        assert (x2 - x1, y1, y2) == (80, 0, 30)
    for x1, y1, x2, y2 in sample_boxes(np.ones((400, 30)), 20, rng=np.random.default_rng(0)):
        assert (x1, x2, y2 - y1) == (0, 30, 80)


def test_large_masks_exceed_a_low_scale_by_as_little_as_possible():
    mask = np.ones((100, 100), np.uint8)
    for box in sample_boxes(mask, 10, 0.5, (0.1, 0.3), rng=np.random.default_rng(0)):
        assert 0.5 <= coverage(mask, box) < 0.515
        assert is_allowed(box, (100, 100), (0.5, 0.515), (3 / 4, 4 / 3))


def test_pair_binds_the_second_box_by_the_first():
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


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float32, np.int64])
def test_masks_of_any_type(dtype):
    mask = np.zeros((20, 30), dtype)
    mask[4:9, 20:25] = 1
    assert sample_boxes(mask, rng=np.random.default_rng(3)) == sample_boxes(
        mask.astype(np.uint8) * 255, rng=np.random.default_rng(3)
    )


def test_the_same_source_gives_the_same_boxes_and_none_gives_others():
    mask = _two_blobs().repeat(20, 0).repeat(20, 1)
    first, again = (sample_boxes(mask, 4, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert sample_boxes(mask, 4) != sample_boxes(mask, 4)


def test_large_pictures():
    mask = np.zeros((3000, 4000), np.uint8)
    mask[-3:, -5:] = 1
    for box in sample_boxes(mask, 2, 0.9, rng=np.random.default_rng(0)):
        assert coverage(mask, box) >= 0.9
        assert is_allowed(box, mask.shape, (0.2, 1.0), (3 / 4, 4 / 3))


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
    ],
)
def test_bad_arguments(change, message):
    arguments = {"mask": np.ones((5, 5)), **change}
    with pytest.raises(InputError, match=message):
        sample_boxes(**arguments)


def test_positions_agree_with_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = (rng.random((rng.integers(1, 12), rng.integers(1, 12))) < 0.3).astype(np.uint8)
        if not mask.any():
            continue
        height, width = rng.integers(1, mask.shape[0] + 1), rng.integers(1, mask.shape[1] + 1)
        table = CoverageTable(mask)
        first = (0, 0, (mask.shape[1] + 1) // 2, (mask.shape[0] + 1) // 2)
        needs = [table.need(0.3, table.frame), table.need(0.4, first)]
        found = set(zip(*(values.tolist() for values in table.positions(width, height, needs)), strict=True))
        expected = {
            (x, y)
            for y in range(mask.shape[0] - height + 1)
            for x in range(mask.shape[1] - width + 1)
            if table.satisfies((x, y, x + width, y + height), needs)
        }
        assert found == expected


def test_size_range_never_draws_what_does_not_fit():
    sizes = SizeRange(50, 20, (0.2, 1.0), (3 / 4, 4 / 3))
    rng = np.random.default_rng(0)
    drawn = [size for _ in range(500) if (size := sizes.draw(rng)) is not None]
    assert drawn
    assert all(width <= 50 and height <= 20 for width, height in drawn)
