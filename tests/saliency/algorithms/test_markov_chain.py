"""MC against plain loops over its equations."""

import numpy as np
import pytest

from castlit.saliency.algorithms import markov_chain as module
from castlit.saliency.algorithms.superpixels import describe, segment, to_lab


@pytest.fixture
def regions(red_on_green):
    return segment(red_on_green[0], 40)


def slow_weights(regions):
    n = len(regions)
    near = regions.neighbours
    colour = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in regions.lab] for a in regions.lab])
    weights = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            through = any(near[i, k] and near[k, j] for k in range(n))
            if i == j or near[i, j] or through or (regions.border[i] and regions.border[j]):
                weights[i, j] = np.exp(-10 * colour[i, j] / colour.max())
    return weights


def test_walk_weights(regions):
    weights, to_border = module.walk_weights(regions)
    expected = slow_weights(regions)
    assert weights == pytest.approx(expected)
    assert to_border == pytest.approx([sum(row[regions.border]) for row in expected])


def test_absorbed_time(regions):
    """Against the sum over steps of the probability that the walk is not absorbed yet."""
    weights, to_border = module.walk_weights(regions)
    chances = weights / (weights.sum(1) + to_border)[:, None]
    # Of the first 2, 4, 8, … steps at once.
    expected, on_the_way = np.ones(len(regions)), chances
    for _ in range(25):
        expected, on_the_way = expected + on_the_way @ expected, on_the_way @ on_the_way
    assert on_the_way.max() < 1e-12
    assert module.absorbed_time(weights, to_border, np.ones(len(regions))) == pytest.approx(expected, rel=1e-6)


def test_absorbed_time_scales_with_steps(regions):
    weights, to_border = module.walk_weights(regions)
    ones = np.ones(len(regions))
    assert module.absorbed_time(weights, to_border, 3 * ones) == pytest.approx(
        3 * module.absorbed_time(weights, to_border, ones)
    )


def test_undecidedness():
    assert module.undecidedness(np.array([0.0, 0.01, 0.99, 1.0])) == 1  # bins 1 and 10 count 1
    assert module.undecidedness(np.array([0.45, 0.55])) == 5  # bins 5 and 6 count 5
    assert module.undecidedness(np.array([0.0, 0.25])) == pytest.approx((1 + 3) / 2)


@pytest.mark.parametrize(("place", "expected"), [((4, 5), 1.0), ((1, 8), 0.0)])
def test_superpixel_unlike_all_others(place, expected):
    """One among those of the object is salient, one in the background is not, and neither hides the object."""
    labels = np.arange(100, dtype=np.int32).reshape(10, 10).repeat(8, 0).repeat(8, 1)
    rng = np.random.default_rng(0)
    cells = rng.integers(100, 112, (10, 10, 3))
    cells[3:6, 3:6] = rng.integers(200, 212, (3, 3, 3))
    cells[place] = (255, 0, 255)
    image = cells.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    found = module.mc_values(describe(image, to_lab(image), labels)).reshape(10, 10)
    assert found[place] == expected
    others = found.copy()
    others[place] = np.nan
    assert np.nanmin(others[3:6, 3:6]) > 0.5
    assert np.nanmean(others[:3]) < 0.2


def test_all_unlike(monkeypatch):
    labels = np.arange(100, dtype=np.int32).reshape(10, 10).repeat(8, 0).repeat(8, 1)
    image = np.random.default_rng(0).integers(0, 256, (10, 10, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    monkeypatch.setattr(module, "COLOUR_SCALE", 1e4)
    assert not module.mc_values(describe(image, to_lab(image), labels)).any()
