"""Twenty thousand masks: every box is within the limits, and a limit is exceeded only where no box is allowed."""

from collections import Counter

import numpy as np
import pytest

from castlit.crops import sample_boxes

COVERAGES = [0.0, 0.05, 0.2, 0.2, 0.29, 0.5, 0.9, 1.0]
SCALES = [*[(0.2, 1.0)] * 4, (0.08, 1.0), (0.08, 1.0), (0.3, 0.5), (0.5, 0.5), (0.9, 1.0), (0.01, 0.05)]
RATIOS = [(3 / 4, 4 / 3), (3 / 4, 4 / 3), (1.0, 1.0), (0.5, 2.0), (2.0, 3.0)]
SLACK = 1e-8  # in the logarithm

# Name, number of masks, bounds of height and width.
SHAPES = [
    ("tiny", 10_000, (1, 9), (1, 9)),
    ("small", 4300, (1, 40), (1, 40)),
    ("lower", 2100, (1, 25), (1, 50)),
    ("higher", 2100, (1, 50), (1, 25)),
    ("wide", 400, (1, 12), (50, 600)),
    ("tall", 400, (50, 600), (1, 12)),
    ("medium", 500, (40, 250), (40, 250)),
    ("photograph", 200, (300, 640), (300, 640)),
    ("panorama", 30, (20, 200), (2000, 4000)),
    ("large", 12, (1500, 3000), (2000, 4000)),
]


@pytest.mark.parametrize(("name", "count", "heights", "widths"), SHAPES, ids=[name for name, *_ in SHAPES])
def test_limits_of_every_box(brute, name, count, heights, widths):
    rng = np.random.default_rng(count + heights[1])
    seen, exceeded = Counter(), Counter()
    for _ in range(count):
        height, width = int(rng.integers(*heights, endpoint=True)), int(rng.integers(*widths, endpoint=True))
        kind = brute.KINDS[rng.integers(len(brute.KINDS))]
        mask = kind(rng, height, width)
        min_coverage = COVERAGES[rng.integers(len(COVERAGES))]
        scale, ratio = SCALES[rng.integers(len(SCALES))], RATIOS[rng.integers(len(RATIOS))]
        constraint, law = ["saliency", "pair"][rng.integers(2)], ["uniform", "resized_crop"][rng.integers(2)]
        relaxed = Counter()
        boxes = sample_boxes(mask, 2, min_coverage, scale, ratio, rng, constraint, law, relaxed)
        check(brute, mask, boxes, min_coverage, scale, ratio, constraint, relaxed)
        seen[kind.__name__] += 1
        exceeded += relaxed
    assert len(seen) == len(brute.KINDS) or name == "large"
    assert name == "large" or exceeded.total() > 0


def check(brute, mask, boxes, min_coverage, scale, ratio, constraint, relaxed):
    height, width = mask.shape
    outside = Counter()
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert covers(mask, boxes[index], min_coverage)
        if index and constraint == "pair":
            a, b, c, d = boxes[0]
            part = np.zeros_like(mask)
            part[b:d, a:c] = mask[b:d, a:c]
            assert covers(part, boxes[index], min_coverage)
        w, h = x2 - x1, y2 - y1
        if off(w / h, ratio):
            outside["ratio"] += 1
        elif off(w * h / (width * height), scale):
            outside["scale"] += 1
    assert outside == relaxed
    # No box within the limits covers enough. In large images only a sample of the widths is tried.
    every = 1 if mask.size < 100_000 else 29
    if relaxed:
        assert not brute.any_box_allowed(mask, min_coverage, scale, ratio, every)
    if relaxed["ratio"]:
        assert not brute.any_box_allowed(mask, min_coverage, (1e-12, 1.0), ratio, every)


def covers(mask, box, min_coverage):
    x1, y1, x2, y2 = box
    return np.count_nonzero(mask[y1:y2, x1:x2]) >= min_coverage * np.count_nonzero(mask) - 1e-9


def off(value, limits):
    return not np.log(limits[0]) - SLACK <= np.log(value) <= np.log(limits[1]) + SLACK
