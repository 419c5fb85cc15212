"""The sizes that scale and ratio allow, and the draws of one."""

import numpy as np
import pytest

from castlit.crops.sizes import SizeDistribution, Sizes


def test_sizes_within_the_limits():
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
        assert (sizes.nearest()[1] is None) == bool(found)


def test_sizes_at_extreme_draws():
    low, high = np.array([1, 2, 1, 3]), np.array([0, 4, 0, 4])
    distribution = SizeDistribution(low, high, np.array([5.0, 1, 1, 2]), np.array([9.0, 1, 1, 1, 3]))
    last = np.nextafter(1, 0)
    assert distribution.draw(0.0, 0.0) == (1, 2)
    assert distribution.draw(last, last) == (3, 4)
    for u, v in np.random.default_rng(0).random((200, 2)).tolist():
        many = distribution.draw_many(np.array([u]), np.array([v]))
        assert distribution.draw(u, v) == (many[0][0], many[1][0])
        assert distribution.draw(u, v)[0] in (1, 3)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (4 / 3, 4 / 3), (2**0.5, 2**0.5), (0.1, 0.2), (2.0, 3.0)])
@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40), (64, 48), (100, 100), (7, 90), (300, 11), (1, 1)])
def test_growing_sizes(width, height, ratio):
    sizes, _ = Sizes.of(width, height, (0.2, 0.5), ratio).nearest()
    low, high = sizes.of_any_area().heights()
    widths, heights, within = sizes.growing()
    assert 1 <= within < len(widths)
    assert (np.diff(widths) >= 0).all()
    assert (np.diff(heights) >= 0).all()
    assert (widths[-1], heights[-1]) == (width, height)
    assert ((low[widths] <= heights) & (heights <= high[widths]))[:within].all()
    assert widths[0] * heights[0] >= sizes.integer_areas()[0]
    every = [(w, h) for w in range(1, width + 1) for h in range(low[w], high[w] + 1)]
    assert (widths[within - 1], heights[within - 1]) == tuple(np.max(every, axis=0))
