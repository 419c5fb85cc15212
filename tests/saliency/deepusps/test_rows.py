"""Rows on disk and their flags."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.saliency.deepusps.rows import Rows


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 12), data=st.data())
def test_put(tmp_path_factory, count, data):
    path = tmp_path_factory.mktemp("rows") / "deep" / "rows"
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    chosen = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    wanted = np.zeros((count, 3, 2), np.uint8)
    for index in chosen:
        wanted[index] = rng.integers(1, 256, (3, 2))
        Rows(path, count, (3, 2)).put(index, wanted[index], 2)  # each by a new object, as by another process
    rows = Rows(path, count, (3, 2))
    assert len(rows) == count
    assert np.array_equal(rows.values, wanted)
    assert rows.missing == sorted(set(range(count)) - set(chosen))
    assert np.array_equal(rows.flags, [2 * (i in chosen) for i in range(count)])
    assert Rows.complete(path, count, (3, 2)) == (not rows.missing)


def test_other_lengths_start_empty(tmp_path):
    Rows(tmp_path / "rows", 2, (2, 2)).put(0, np.ones((2, 2), np.uint8))
    assert not Rows.complete(tmp_path / "rows", 3, (2, 2))
    rows = Rows(tmp_path / "rows", 3, (2, 2))
    assert rows.missing == [0, 1, 2]
    assert not rows.values.any()
    rows.remove()
    assert not list(tmp_path.iterdir())
    assert not Rows.complete(tmp_path / "rows", 3, (2, 2))
    assert not list(tmp_path.iterdir()), "complete() creates no file"


@pytest.mark.parametrize("values", [np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.float32)])
def test_wrong_shape_or_type(tmp_path, values):
    with pytest.raises(ValueError, match=r"expected \(2, 2\) bytes"):
        Rows(tmp_path / "rows", 2, (2, 2)).put(0, values)
