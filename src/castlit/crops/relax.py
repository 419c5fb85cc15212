"""Which limits give way, and by how little, where no box within scale and ratio holds enough."""

import math
from collections.abc import Callable
from typing import Literal

from castlit.crops.sizes import TOLERANCE, Sizes

COARSE = 0.02
"""Share of itself up to which an area is found by bisection."""

Limit = Literal["scale", "ratio"]
Find = Callable[[Sizes], tuple[int, int] | None]
"""Finds the (width, height) of some box that will do, among the given sizes; None where none will."""


def relax(sizes: Sizes, find: Find) -> tuple[Sizes, Limit]:
    """The sizes nearest to ``sizes``, none of which will do, among which one does.

    The distance from a range is |log(value / the range's nearer end)|. Nearest are the sizes with the least distance of
    width / height from the range of ratios; among those, the ones with the least distance of the area.

    Args:
        sizes: The sizes asked for.
        find: Knows which boxes will do. The whole image must, and what contains a box that will do.

    Returns:
        Sizes among which exactly those at the least distances will do (others may be among them that will not), and
        which limit gave way: ``"ratio"`` where that did, whether or not ``"scale"`` did also.
    """
    limit: Limit = "scale"
    if find(sizes._replace(areas=(1, sizes.width * sizes.height))) is None:
        limit = "ratio"
        asked, sizes = sizes, _nearest_ratios(sizes._replace(areas=(1, sizes.width * sizes.height)), find)
        sizes = sizes._replace(areas=asked.areas)
        if find(sizes) is not None:
            return sizes, limit
    return _nearest_areas(sizes, find), limit


def _nearest_ratios(sizes: Sizes, find: Find) -> Sizes:
    low, high = sizes.ratios
    whole = sizes.width / sizes.height  # would do, so it lies outside the range

    def widened(distance: float) -> Sizes:
        return sizes._replace(ratios=(low * math.exp(-distance), high * math.exp(distance)))

    near, far = 0.0, max(math.log(low / whole), math.log(whole / high))
    while far - near > TOLERANCE / 10:  # ratios of whole numbers up to 10 000 are ten times farther apart
        middle = (near + far) / 2
        near, far = (near, middle) if find(widened(middle)) else (middle, far)
    # Leave out the side where none will do, and the range itself, to have as few sizes as possible to draw from.
    wide = sizes._replace(ratios=(high * math.exp(near), high * math.exp(far)))
    tall = sizes._replace(ratios=(low * math.exp(-far), low * math.exp(-near)))
    able = [side for side in (wide, tall) if find(side)]
    return able[0] if len(able) == 1 else widened(far)


def _nearest_areas(sizes: Sizes, find: Find) -> Sizes:
    low, high = sizes.areas
    least, most = sizes.whole_areas()
    above = _least_area(sizes, most, find)
    distance_above = math.inf if above is None else math.log(above / high)
    # Below the range, only areas at no greater distance are of interest.
    floor = 1 if above is None else max(1, math.ceil(low * high / above * (1 - TOLERANCE)))
    below = _greatest_area(sizes, floor, least, find)
    if below is None:
        return sizes._replace(areas=(above or 1, above or 1))
    distance_below = math.log(low / below)
    if above is not None and abs(distance_above - distance_below) < TOLERANCE:
        return sizes._replace(areas=(below, above))
    nearest = below if above is None or distance_below < distance_above else above
    return sizes._replace(areas=(nearest, nearest))


def _greatest_area(sizes: Sizes, low: int, high: int, find: Find) -> int | None:
    """The greatest area from ``low`` up to below ``high`` of a box that will do; None where there is none."""

    def reaches(step: int) -> bool:
        return find(sizes._replace(areas=(high - step, high - 1))) is not None

    return high - _first(0, high - low, reaches) if low < high and reaches(high - low) else None


def _least_area(sizes: Sizes, low: int, find: Find) -> int | None:
    """The least area above ``low`` of a box that will do, whatever ``sizes.areas``; None where there is none."""
    best, target = None, sizes.width * sizes.height
    while low < target:
        size = find(sizes._replace(areas=(low + 1, target)))
        if size is not None:
            width, height = size
            if best is not None and target == best - 1:
                height = _least_height(sizes._replace(only=width), low, height, find)
            best = width * height
        elif best is None:
            return None
        else:
            low = target
        # The nearer the answer, the more work it is to show that nothing will do. So bisection gives only a coarse one.
        # Then it is asked whether anything is better; as every box found is cut to the least height of its width, few
        # widths are left that are, and fewer after the next.
        target = (low + best) // 2 if best - low > COARSE * best else best - 1
    return best


def _least_height(sizes: Sizes, low: int, high: int, find: Find) -> int:
    """The least height of a box of the one width that has an area above ``low`` and will do, as ``high`` will."""
    width = sizes.only or 1
    return _first(low // width, high, lambda height: find(sizes._replace(areas=(low + 1, width * height))) is not None)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least number in low + 1 .. high for which a condition holds; it must for ``high``, and beyond any it does."""
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
