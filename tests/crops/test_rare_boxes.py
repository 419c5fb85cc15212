"""Boxes that few or no draws give: the work is bounded, and nothing that fits is overlooked."""

from collections import Counter

import numpy as np
import pytest

from castlit.crops import boxes as quick
from castlit.crops import rare_boxes, sample_boxes
from castlit.crops.coverage import CoverageTable, Mask, Need
from castlit.crops.rare_boxes import RareBoxes, starts
from castlit.crops.sizes import plan


@pytest.fixture
def work(monkeypatch):
    """Counts the proposals, and the positions where a size was looked at."""
    counts = Counter()
    count, reaches = CoverageTable.count, CoverageTable.reaches

    def count_proposals(table, boxes):
        counts["proposals"] += len(boxes)
        return count(table, boxes)

    def count_positions(table, pixels, width, height, rows):
        reached = reaches(table, pixels, width, height, rows)
        counts["positions"] += reached.size
        return reached

    monkeypatch.setattr(CoverageTable, "count", count_proposals)
    monkeypatch.setattr(CoverageTable, "reaches", count_positions)
    return counts


def noise(height, width):
    return np.random.default_rng(0).random((height, width)) < 0.25


def most_positions(mask, scale, ratio):
    """The positions of the largest sizes, and of the sizes that a bisection tries after them."""
    height, width = mask.shape
    sizes = plan(width, height, scale, ratio, False).sizes
    widths, heights = sizes.largest()
    largest = ((width - widths + 1) * (height - heights + 1)).sum()
    steps = np.ceil(np.log2(len(sizes.growing()[0]))) + 2  # one more for rounding, one for the draw
    return (largest + steps * mask.size) * sum(1 / rows for rows in rare_boxes.ROWS) * 1.1


@pytest.mark.parametrize("factor", [0.99, 1.02, 1.03, 1.04, 1.045, 1.1, 2.0])
@pytest.mark.parametrize("scale", [(0.02, 0.1), (0.3, 0.5)])
def test_noise_takes_bounded_work(factor, scale, brute, work):
    # White noise that hardly any box of the largest sizes covers enough of, or none.
    mask, ratio, min_coverage = noise(300, 400), (3 / 4, 4 / 3), min(1.0, factor * scale[1])
    relaxed = Counter()
    sample_boxes(mask, 2, min_coverage, scale, ratio, np.random.default_rng(1), relaxed=relaxed)
    assert (not relaxed) == brute.any_box_allowed(mask, min_coverage, scale, ratio)
    assert work["proposals"] <= rare_boxes.GIVE_UP_AFTER + 2 * rare_boxes.LAST_BATCH
    assert work["positions"] <= most_positions(mask, scale, ratio)
    if relaxed:
        assert work["proposals"] <= 2 * rare_boxes.CHECK_AFTER


def test_full_image_covers_both_corners(work):
    mask = np.zeros((300, 400), np.uint8)
    mask[0, 0] = mask[-1, -1] = 1
    relaxed = Counter()
    boxes = sample_boxes(mask, 5, 1.0, rng=np.random.default_rng(0), relaxed=relaxed)
    assert boxes == [(0, 0, 400, 300)] * 5
    assert not relaxed
    assert work["proposals"] <= rare_boxes.GIVE_UP_AFTER + rare_boxes.LAST_BATCH
    assert work["positions"] <= 20


def test_quick_masks_build_no_table(work):
    sample_boxes(np.ones((300, 400), np.uint8), 50, rng=np.random.default_rng(0))
    assert not work


def test_size_with_one_valid_position(brute):
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = rng.integers(1, 150, 2).tolist()
        mask = brute.KINDS[rng.integers(len(brute.KINDS))](rng, height, width)
        mask[rng.integers(height), rng.integers(width)] = 1
        need = Need(int(rng.integers(1, np.count_nonzero(mask), endpoint=True)), (0, 0, width, height))
        rare = RareBoxes(plan(width, height, (0.2, 1.0), (0.5, 2.0), False), Mask(mask), [need], rng)
        for _ in range(10):
            w, h = int(rng.integers(1, width, endpoint=True)), int(rng.integers(1, height, endpoint=True))
            strips = brute.table_of(mask)
            strips = strips[h:] - strips[:-h]
            assert rare._fits(w, h) == ((strips[:, w:] - strips[:, :-w]).max() >= need.pixels)


def test_one_rare_box_is_found(monkeypatch):
    monkeypatch.setattr(rare_boxes, "GIVE_UP_AFTER", 1 << 13)
    monkeypatch.setattr(quick, "QUICK_TRIES", 0)
    mask = np.zeros((480, 640), np.uint8)
    mask[7, 13] = mask[106, 112] = 1
    relaxed = Counter()
    scale = (100 * 100 / mask.size,) * 2
    assert sample_boxes(mask, 3, 1.0, scale, (1.0, 1.0), relaxed=relaxed) == [(13, 7, 113, 107)] * 3
    assert not relaxed


def test_starts_of_strips():
    rng = np.random.default_rng(0)
    for _ in range(200):
        length = int(rng.integers(1, 30))
        needs = []
        for _ in range(int(rng.integers(0, 3))):
            before = np.concatenate([[0], (rng.random(length) < 0.3).cumsum()])
            needs.append((int(rng.integers(1, 6)), before))
        first, count = starts(length, needs)
        for width in range(1, length + 1):
            ranges = []
            for pixels, before in needs:
                enough = [x for x in range(length - width + 1) if before[x + width] - before[x] >= pixels]
                ranges.append(range(enough[0], enough[-1] + 1) if enough else range(0))
            expected = set(range(length - width + 1)).intersection(*ranges)
            assert set(range(first[width], first[width] + count[width])) == expected
