"""Counts of salient pixels, compared with brute force."""

import numpy as np
import pytest

from castlit.crops import coverage
from castlit.crops.coverage import Mask, Need


def some_mask(brute, rng, longest):
    height, width = rng.integers(1, longest, 2)
    mask = brute.KINDS[rng.integers(len(brute.KINDS))](rng, height, width)
    mask[rng.integers(height), rng.integers(width)] = 1
    return mask


def some_needs(brute, rng, mask):
    """A need of the whole mask, and one of a part with salient pixels."""
    height, width = mask.shape
    region = (0, 0, *rng.integers(1, [width, height], endpoint=True).tolist())
    needs = [Need(int(np.ceil(rng.random() * np.count_nonzero(mask))), (0, 0, width, height))]
    inside = int(brute.contained(brute.table_of(mask), [region])[0])
    return [*needs, Need(int(np.ceil(rng.random() * inside)), region)] if inside else needs


def enough(brute, mask, boxes, needs):
    table = brute.table_of(mask)
    return np.all([brute.contained(table, boxes, region) >= max(1, pixels) for pixels, region in needs], axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_counts_of_boxes(brute, seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        mask = some_mask(brute, rng, 14)
        needs = some_needs(brute, rng, mask)
        boxes = brute.every_box(*mask.shape)
        boxes = boxes[rng.permutation(len(boxes))[:100]]
        expected = enough(brute, mask, boxes, needs)
        for array in (mask, mask != 0, mask.astype(np.float32)):
            counts = Mask(array)
            many = np.all([counts.table(region).count(boxes) >= max(1, pixels) for pixels, region in needs], axis=0)
            single = [all(counts.satisfies(tuple(box), need) for need in needs) for box in boxes.tolist()]
            assert many.tolist() == single == expected.tolist()
            assert [counts.count(tuple(box)) for box in boxes.tolist()] == brute.contained(
                brute.table_of(mask), boxes
            ).tolist()


@pytest.mark.parametrize("block", [1, 40, coverage.BLOCK])
def test_all_positions_of_one_size(brute, block, monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", block)
    rng = np.random.default_rng(block)
    for _ in range(60):
        mask = some_mask(brute, rng, 22)
        height, width = mask.shape
        ((pixels, region), *_) = reversed(some_needs(brute, rng, mask))
        w, h = int(rng.integers(1, width, endpoint=True)), int(rng.integers(1, height, endpoint=True))
        rows = np.flatnonzero(rng.random(height) < 0.7)  # boxes that begin too far down end with the image
        x, y = np.meshgrid(np.arange(width - w + 1), rows)
        boxes = np.stack([x, y, x + w, np.minimum(y + h, height)], axis=-1).reshape(-1, 4)
        expected = brute.contained(brute.table_of(mask), boxes, region) >= pixels
        reached = Mask(mask).table(region).reaches(pixels, w, h, rows)
        assert reached.shape == x.shape
        assert reached.ravel().tolist() == expected.tolist()
