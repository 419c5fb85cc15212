"""The parts of the search, each against brute force."""

import numpy as np
import pytest
from scipy import stats

from castlit.crops import covering
from castlit.crops.coverage import Mask, Need
from castlit.crops.covering import covering_boxes, find
from castlit.crops.sizes import SizeLaw, Sizes
from castlit.crops.strips import Axis, StripLaw


def some_mask(brute, rng, longest):
    height, width = rng.integers(1, longest, 2)
    mask = brute.KINDS[rng.integers(len(brute.KINDS))](rng, height, width)
    mask[rng.integers(height), rng.integers(width)] = 1
    return mask


def some_needs(brute, rng, mask):
    """A need of the whole mask, and one of a part that holds something."""
    height, width = mask.shape
    region = (0, 0, *rng.integers(1, [width, height], endpoint=True).tolist())
    needs = [Need(int(np.ceil(rng.random() * np.count_nonzero(mask))), (0, 0, width, height))]
    inside = int(brute.held(brute.table_of(mask), [region])[0])
    return [*needs, Need(int(np.ceil(rng.random() * inside)), region)] if inside else needs


def enough(brute, mask, boxes, needs):
    table = brute.table_of(mask)
    return np.all([brute.held(table, boxes, region) >= max(1, pixels) for pixels, region in needs], axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_counting_in_one_box_and_in_many(brute, seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        mask = some_mask(brute, rng, 14)
        needs = some_needs(brute, rng, mask)
        boxes = brute.every_box(*mask.shape)
        boxes = boxes[rng.permutation(len(boxes))[:100]]
        expected = enough(brute, mask, boxes, needs)
        for array in (mask, mask != 0, mask.astype(np.float32)):
            counts = Mask(array)
            many = counts.table().satisfy(tuple(boxes.T), needs)
            single = [all(counts.satisfies(tuple(box), need) for need in needs) for box in boxes.tolist()]
            assert many.tolist() == single == expected.tolist()
            assert [counts.count(tuple(box)) for box in boxes.tolist()] == brute.held(
                brute.table_of(mask), boxes
            ).tolist()


@pytest.mark.parametrize("finish", ["cells", "blocks", "as is"])
@pytest.mark.parametrize("root", [1, 60, 4096])
def test_all_boxes_of_given_sizes_are_found_once_each(brute, root, finish, monkeypatch):
    monkeypatch.setattr(covering, "ROOT_CELLS", root)
    monkeypatch.setattr(covering, "CHUNK", 13)
    monkeypatch.setattr(covering, "SIZE_COST", {"cells": 1e9, "blocks": 0.0, "as is": covering.SIZE_COST}[finish])
    monkeypatch.setattr(covering, "BOX_COST", {"cells": 1e9, "blocks": 0.0, "as is": covering.BOX_COST}[finish])
    rng = np.random.default_rng(root)
    for _ in range(60):
        mask = some_mask(brute, rng, 22)
        height, width = mask.shape
        needs = some_needs(brute, rng, mask)
        needs = [Need(max(1, pixels), region) for pixels, region in needs]
        widths = np.flatnonzero(rng.random(width) < 0.6) + 1
        heights = rng.integers(1, height, len(widths), endpoint=True)
        if len(widths) == 0:
            continue
        boxes = brute.every_box(height, width)
        size = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], axis=1)
        listed = (size[:, None] == np.stack([widths, heights], axis=1)).all(axis=2).any(axis=1)
        expected = sorted(map(tuple, boxes[listed & enough(brute, mask, boxes, needs)].tolist()))
        table = Mask(mask).table()
        found = [tuple(box) for some in covering_boxes(table, needs, widths, heights) for box in some.tolist()]
        assert sorted(found) == expected
        one = next(covering_boxes(table, needs, widths, heights, any_will_do=True), None)
        assert (one is None) == (not expected)
        assert one is None or {tuple(box) for box in one.tolist()} <= set(expected)


def test_what_is_found_is_among_the_sizes(brute):
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = some_mask(brute, rng, 12)
        height, width = mask.shape
        needs = [Need(max(1, pixels), region) for pixels, region in some_needs(brute, rng, mask)]
        sizes = Sizes.of(width, height, tuple(np.sort(rng.random(2))), (0.5, 1.5))
        boxes = brute.every_box(height, width)
        low, high = sizes.heights()
        w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        will_do = (low[w] <= h) & (h <= high[w]) & enough(brute, mask, boxes, needs)
        size = find(Mask(mask).table(), needs, sizes)
        assert (size is None) == (not will_do.any())
        assert size is None or size in set(zip(w[will_do].tolist(), h[will_do].tolist(), strict=True))


def test_the_strips_let_through_all_boxes_whose_strips_hold_enough(brute):
    rng = np.random.default_rng(1)
    for _ in range(150):
        mask = some_mask(brute, rng, 12)
        height, width = mask.shape
        needs = [Need(max(1, pixels), region) for pixels, region in some_needs(brute, rng, mask)]
        sizes = Sizes.of(width, height, (0.1, 0.8), (0.4, 3.0))
        boxes = brute.every_box(height, width)
        low, high = sizes.heights()
        w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        columns, rows = boxes.copy(), boxes.copy()
        columns[:, 1], columns[:, 3] = 0, height
        rows[:, 0], rows[:, 2] = 0, width
        through = (low[w] <= h) & (h <= high[w])
        through &= enough(brute, mask, columns, needs) & enough(brute, mask, rows, needs)
        for pixels, (x1, _, x2, _) in needs:
            through &= h * np.minimum(w, x2 - x1) >= pixels
        strips = StripLaw(Mask(mask).table(), needs, sizes, by_size=False)
        assert strips.boxes == through.sum()
        if strips.boxes:
            good = set(map(tuple, boxes[through & enough(brute, mask, boxes, needs)].tolist()))
            assert set(map(tuple, strips.propose(200, rng).tolist())) <= good


def test_starts_along_an_axis_are_equally_likely():
    before = np.concatenate([[0], np.cumsum(np.random.default_rng(0).random(60) < 0.2)]).astype(np.int32)
    axis = Axis([(3, before)], 60)
    length, rng = 14, np.random.default_rng(0)
    good = [x for x in range(60 - length + 1) if before[x + length] - before[x] >= 3]
    assert axis.starts[length] == len(good)
    assert 4 < len(good) < 40
    picked = axis.pick(np.full(20_000, length), rng.random(20_000))
    counts = np.bincount(picked, minlength=60)
    assert counts.sum() == counts[good].sum()
    assert stats.chisquare(counts[good]).pvalue > 1e-4


def test_sizes_are_those_within_the_limits():
    for width, height, scale, ratio in [
        (7, 5, (0.2, 1.0), (3 / 4, 4 / 3)),
        (10, 10, (0.49, 0.49), (1.0, 1.0)),  # 7 × 7 at 0.49 · 100 = 48.99999999999999
        (35, 1, (0.2, 0.2), (1.0, 10.0)),  # 7 × 1 at 0.2 · 35 = 7.000000000000001
        (12, 9, (0.05, 0.5), (1 / 3, 1 / 3)),
        (1, 1, (0.2, 0.5), (0.5, 2.0)),
        (6, 8, (1e-300, 1.0), (1e-320, 1e308)),
    ]:
        sizes = Sizes.of(width, height, scale, ratio)
        low, high = sizes.heights()
        found = {(w, h) for w in range(1, width + 1) for h in range(low[w], high[w] + 1)}
        assert low[0] > high[0]
        assert found == {
            (w, h)
            for w in range(1, width + 1)
            for h in range(1, height + 1)
            if scale[0] * (1 - 1e-9) <= w * h / (width * height) <= scale[1] * (1 + 1e-9)
            and ratio[0] * (1 - 1e-9) <= w / h <= ratio[1] * (1 + 1e-9)
        }
        largest = {size for size in found if not any(o != size and o[0] >= size[0] and o[1] >= size[1] for o in found)}
        assert set(zip(*(side.tolist() for side in sizes.largest()), strict=True)) == largest
        assert (sizes.any() is None) == (not found)


def test_the_ends_of_the_random_numbers_give_sizes_too():
    low, high = np.array([1, 2, 1, 3]), np.array([0, 4, 0, 4])
    law = SizeLaw(low, high, np.array([5.0, 1, 1, 2]), np.array([9.0, 1, 1, 1, 3]))
    last = np.nextafter(1, 0)
    assert law.draw(0.0, 0.0) == (1, 2)
    assert law.draw(last, last) == (3, 4)
    for u, v in np.random.default_rng(0).random((200, 2)).tolist():
        many = law.draw_many(np.array([u]), np.array([v]))
        assert law.draw(u, v) == (many[0][0], many[1][0])
        assert law.draw(u, v)[0] in (1, 3)
