"""Means, intervals and paired differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from castlit.experiments.estimates import difference, estimate, estimates


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
def test_interval_matches_scipy(values):
    found = estimate(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.mean - found.half_width == pytest.approx(low, abs=1e-9)
    assert found.mean + found.half_width == pytest.approx(high, abs=1e-9)


def test_interval_coverage():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = estimate(list(rng.normal(0.3, 0.1, 5)))
        hits += abs(found.mean - 0.3) <= found.half_width
    assert 0.935 < hits / 2000 < 0.965


def test_one_seed_has_no_interval():
    assert estimate([0.25]) == (0.25, None, 1)
    assert str(estimate([0.25])) == "25.0"
    assert str(estimate([-0.0001])) == "0.0"


def test_differences_are_paired_by_seed():
    control = {0: {"x": 0.1}, 1: {"x": 0.5}, 2: {"x": 0.3}}
    treated = {0: {"x": 0.2}, 1: {"x": 0.6}, 3: {"x": 0.9}}
    found = difference(treated, control, "x")
    assert found.mean == pytest.approx(0.1)
    assert found.half_width == pytest.approx(0, abs=1e-9)
    assert found.seeds == 2
    assert difference(treated, control, "y") is None
    assert estimates({}, "x") is None
