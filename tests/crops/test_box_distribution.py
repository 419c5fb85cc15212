"""The distribution of the boxes, compared with a list of all allowed ones and their weights."""

import numpy as np
import pytest
from scipy import stats

from castlit.crops import boxes as quick
from castlit.crops import rare_boxes, sample_boxes

LAWS = ["uniform", "resized_crop"]


def two_blobs(height=9, width=11):
    mask = np.zeros((height, width), np.uint8)
    mask[0:2, 0:3] = 1
    mask[5:9, 8:11] = 1
    return mask


def speck(height=12, width=10):
    mask = np.zeros((height, width), bool)
    mask[-1, -2:] = True
    return mask


def noise(height=10, width=12):
    return (np.random.default_rng(4).random((height, width)) < 0.4).astype(np.float32)


def full(height=10, width=11):
    return np.full((height, width), 255, np.uint8)


# Mask, coverage, scale, ratio.
EASY = [
    (two_blobs(), 0.2, (0.2, 1.0), (3 / 4, 4 / 3)),
    (noise(), 0.1, (0.1, 0.5), (0.5, 2.0)),
    (full(), 0.2, (0.2, 1.0), (3 / 4, 4 / 3)),
    (full(5, 40), 0.0, (0.2, 1.0), (1.0, 6.0)),
]
HARD = [
    (np.pad(two_blobs(5, 11), 2), 0.9, (0.2, 1.0), (3 / 4, 2.0)),
    (speck(), 1.0, (0.05, 0.3), (3 / 4, 4 / 3)),
    (noise(), 0.6, (0.2, 0.6), (0.5, 2.0)),
    (full(), 0.7, (0.2, 1.0), (3 / 4, 4 / 3)),
    (np.kron(two_blobs(5, 11), np.ones((2, 3), np.uint8)), 0.4, (0.1, 0.4), (0.5, 2.0)),
]


def assert_distribution(boxes, allowed, weights):
    """Chi-square of the drawn boxes; neighbours in the list are taken together where they are rarer than ten."""
    position = {box: i for i, box in enumerate(map(tuple, allowed.tolist()))}
    counts = np.bincount([position[box] for box in boxes], minlength=len(allowed))
    expected = weights / weights.sum() * len(boxes)
    group = (expected.cumsum() // 10).astype(int)
    group = np.unique(np.minimum(group, max(0, group[-1] - 1)), return_inverse=True)[1]
    assert group[-1] > 3
    assert stats.chisquare(np.bincount(group, counts), np.bincount(group, expected)).pvalue > 1e-4


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", range(len(EASY)))
def test_quick_path(brute, case, law):
    mask, min_coverage, scale, ratio = EASY[case]
    allowed, limit = brute.drawable(mask, min_coverage, scale, ratio)
    boxes = sample_boxes(mask, 20_000, min_coverage, scale, ratio, np.random.default_rng(case), law=law)
    assert limit is None
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", range(len(EASY) - 1))
def test_proposals(brute, case, law, monkeypatch):
    monkeypatch.setattr(quick, "QUICK_TRIES", 0)
    mask, min_coverage, scale, ratio = EASY[case]
    allowed, _ = brute.drawable(mask, min_coverage, scale, ratio)
    boxes = sample_boxes(mask, 40_000, min_coverage, scale, ratio, np.random.default_rng(case), law=law)
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", range(len(HARD)))
def test_proposals_for_hard_masks(brute, case, law, monkeypatch):
    monkeypatch.setattr(quick, "QUICK_TRIES", 1)
    mask, min_coverage, scale, ratio = HARD[case]
    allowed, limit = brute.drawable(mask, min_coverage, scale, ratio)
    boxes = sample_boxes(mask, 20_000, min_coverage, scale, ratio, np.random.default_rng(case), law=law)
    assert limit is None
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("tries", [1, 2, 16])
def test_mix_of_quick_path_and_proposals(brute, tries, law, monkeypatch):
    # One box per call, so that some come from the quick tries and others from the proposals after these failed.
    monkeypatch.setattr(quick, "QUICK_TRIES", tries)
    mask, min_coverage, scale, ratio = HARD[4]
    allowed, _ = brute.drawable(mask, min_coverage, scale, ratio)
    rng = np.random.default_rng(tries)
    boxes = [sample_boxes(mask, 1, min_coverage, scale, ratio, rng, law=law)[0] for _ in range(2500)]
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize("case", [2, 4])
def test_proposals_after_the_check(brute, case, monkeypatch):
    monkeypatch.setattr(quick, "QUICK_TRIES", 0)
    monkeypatch.setattr(rare_boxes, "CHECK_AFTER", 0)
    monkeypatch.setattr(rare_boxes, "FIRST_BATCH", 1)
    mask, min_coverage, scale, ratio = HARD[case]
    allowed, _ = brute.drawable(mask, min_coverage, scale, ratio)
    rng = np.random.default_rng(case)
    boxes = [sample_boxes(mask, 1, min_coverage, scale, ratio, rng)[0] for _ in range(2500)]
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, "uniform"))


@pytest.mark.parametrize("law", LAWS)
def test_last_resort(brute, law, monkeypatch):
    # A random one of the largest sizes that fit, then any of its positions.
    monkeypatch.setattr(quick, "QUICK_TRIES", 0)
    monkeypatch.setattr(rare_boxes, "CHECK_AFTER", 0)
    monkeypatch.setattr(rare_boxes, "GIVE_UP_AFTER", 0)
    mask, min_coverage, scale, ratio = noise(), 0.62, (0.2, 0.6), (0.5, 2.0)
    allowed, limit = brute.drawable(mask, min_coverage, scale, ratio)
    inside = brute.distances(every := brute.every_box(*mask.shape), mask.shape, scale, ratio)
    sizes = set(map(tuple, brute.sides(every[(inside[0] == 0) & (inside[1] == 0)]).tolist()))
    largest = {(w, h) for w, h in sizes if not any(o != (w, h) and o[0] >= w and o[1] >= h for o in sizes)}
    listed = np.array([box for box in allowed.tolist() if (box[2] - box[0], box[3] - box[1]) in largest])
    _, kinds, counts = np.unique(brute.sides(listed), axis=0, return_inverse=True, return_counts=True)
    assert limit is None
    assert len(counts) > 2
    rng = np.random.default_rng(0)
    boxes = [sample_boxes(mask, 1, min_coverage, scale, ratio, rng, law=law)[0] for _ in range(3000)]
    assert_distribution(boxes, listed, 1 / counts[kinds.ravel()])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("tries", [0, 16])
@pytest.mark.parametrize("min_coverage", [0.3, 0.6])
def test_pairs(brute, min_coverage, tries, law, monkeypatch):
    monkeypatch.setattr(quick, "QUICK_TRIES", tries)
    mask, scale, ratio = two_blobs(6, 8), (0.2, 0.45), (3 / 4, 4 / 3)
    if min_coverage == 0.6:
        mask[0:2, 0:3] = 0
    rng = np.random.default_rng(0)
    pairs = [tuple(sample_boxes(mask, 2, min_coverage, scale, ratio, rng, "pair", law)) for _ in range(3000)]
    firsts, _ = brute.drawable(mask, min_coverage, scale, ratio)
    likely = brute.weights(firsts, mask.shape, law)
    both, weights = [], []
    for first, weight in zip(firsts, likely / likely.sum(), strict=True):
        seconds, _ = brute.drawable(mask, min_coverage, scale, ratio, tuple(first))
        given = brute.weights(seconds, mask.shape, law)
        both += [(*first.tolist(), *second) for second in seconds.tolist()]
        weights += (weight * given / given.sum()).tolist()
    assert_distribution([first + second for first, second in pairs], np.array(both), np.array(weights))


@pytest.mark.parametrize("law", LAWS)
def test_relaxed_boxes_use_all_positions(brute, law):
    # No tenth of the image covers a third of it. In the image's shape, the smallest size of 36 pixels or more is 7 × 6.
    mask = np.ones((9, 12), np.uint8)
    scale, ratio = (0.05, 0.1), (0.4, 2.5)
    allowed, limit = brute.drawable(mask, 0.33, scale, ratio)
    assert limit == "scale"
    assert np.unique(brute.sides(allowed), axis=0).tolist() == [[7, 6]]
    assert len(allowed) == 6 * 4
    boxes = sample_boxes(mask, 4000, 0.33, scale, ratio, np.random.default_rng(0), law=law)
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize("law", LAWS)
def test_nearest_sizes_follow_the_distribution(brute, law):
    # Only 6 × 7 and 7 × 6 are as near to 41.5 pixels, which no size has.
    mask = np.ones((9, 12), np.uint8)
    scale, ratio = (41.5 / 108, 41.5 / 108), (0.6, 1.8)
    allowed, limit = brute.drawable(mask, 0.2, scale, ratio)
    assert limit == "scale"
    assert len(np.unique(brute.sides(allowed), axis=0)) > 1
    boxes = sample_boxes(mask, 4000, 0.2, scale, ratio, np.random.default_rng(0), law=law)
    assert_distribution(boxes, allowed, brute.weights(allowed, mask.shape, law))


@pytest.mark.parametrize(("min_coverage", "constant"), [(0.0, 1), (0.2, 0), (0.2, 1)])
def test_unconstrained_boxes_match_torchvision(min_coverage, constant):
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    image = torch.empty(3, 400, 520)
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.25, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    mask = np.full((400, 520), constant)  # all of it: every box of a quarter covers a fifth
    ours = sample_boxes(mask, 4000, min_coverage, (0.25, 1.0), rng=np.random.default_rng(0), law="resized_crop")
    for a, b in (
        ([w * h for _, _, h, w in theirs], [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in ours]),
        ([w / h for _, _, h, w in theirs], [(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in ours]),
        ([j for _, j, _, _ in theirs], [x1 for x1, _, _, _ in ours]),
        ([i for i, _, _, _ in theirs], [y1 for _, y1, _, _ in ours]),
    ):
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_constrained_boxes_match_rejection():
    # Proposals of RandomResizedCrop, in real numbers rounded to pixels, refused if they cover too little.
    rng = np.random.default_rng(0)
    height, width = 300, 400
    mask = np.zeros((height, width), bool)
    mask[180:290, 20:150] = True
    area, ratio = rng.uniform(0.2, 1.0, 30_000) * height * width, np.exp(rng.uniform(*np.log([3 / 4, 4 / 3]), 30_000))
    w, h = np.round(np.sqrt(area * ratio)).astype(int), np.round(np.sqrt(area / ratio)).astype(int)
    fits = (w <= width) & (h <= height)
    w, h = w[fits], h[fits]
    x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
    inside = np.clip(np.minimum(x + w, 150) - np.maximum(x, 20), 0, None)
    inside *= np.clip(np.minimum(y + h, 290) - np.maximum(y, 180), 0, None)
    kept = inside >= 0.5 * mask.sum()
    theirs = np.stack([x, y, x + w, y + h], axis=1)[kept]
    ours = np.array(sample_boxes(mask, 10_000, 0.5, rng=rng, law="resized_crop"))
    assert 0.2 < kept.mean() < 0.8
    for column in range(4):
        assert stats.ks_2samp(theirs[:, column], ours[:, column]).pvalue > 1e-3
    sizes = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (theirs, ours)]
    assert stats.ks_2samp(*sizes).pvalue > 1e-3
