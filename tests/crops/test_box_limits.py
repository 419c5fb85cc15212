"""Which boxes may be drawn, compared with a list of every box there is."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.crops import boxes as quick
from castlit.crops import rare_boxes, sample_boxes

SCALES = [(0.2, 1.0), (0.08, 1.0), (0.3, 0.5), (0.5, 0.5), (0.9, 1.0), (0.01, 0.05), (0.37, 0.37)]
RATIOS = [(3 / 4, 4 / 3), (1.0, 1.0), (0.5, 2.0), (2.0, 3.0), (0.1, 0.2), (2**0.5, 2**0.5), (1e-300, 1e300)]


@pytest.mark.parametrize("path", ["quick", "proposals", "last resort"])
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_every_box_may_be_drawn(path, brute, data):
    height, width = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    mask = data.draw(st.sampled_from(brute.KINDS))(rng, height, width)
    min_coverage = data.draw(st.sampled_from([0.0, 0.05, 0.2, 0.29, 0.5, 0.9, 1.0]))
    scale, ratio = data.draw(st.sampled_from(SCALES)), data.draw(st.sampled_from(RATIOS))
    constraint = data.draw(st.sampled_from(["saliency", "pair"]))
    law = data.draw(st.sampled_from(["uniform", "resized_crop"]))
    relaxed = Counter()
    with pytest.MonkeyPatch.context() as patch:
        if path != "quick":
            patch.setattr(quick, "QUICK_TRIES", 0)
        if path == "last resort":
            patch.setattr(rare_boxes, "CHECK_AFTER", 0)
            patch.setattr(rare_boxes, "GIVE_UP_AFTER", 0)
        boxes = sample_boxes(mask, 3, min_coverage, scale, ratio, rng, constraint, law, relaxed)
    assert len(boxes) == 3
    first = boxes[0] if constraint == "pair" and min_coverage > 0 and mask.any() else None
    expected = Counter()
    for index, box in enumerate(boxes):
        allowed, limit = brute.drawable(mask, min_coverage, scale, ratio, first if index else None)
        assert all(type(value) is int for value in box)
        assert box in set(map(tuple, allowed.tolist()))
        expected += Counter([limit] if limit else [])
    assert relaxed == expected
