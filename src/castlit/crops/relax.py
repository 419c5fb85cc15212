"""Which limits give way, and by how little, where no box within scale and ratio holds enough."""

import math
from collections.abc import Callable
from typing import Literal

from castlit.crops.sizes import TOLERANCE, Sizes

Limit = Literal["scale", "ratio"]


def relax(sizes: Sizes, will_do: Callable[[Sizes], bool]) -> tuple[Sizes, Limit]:
    """The sizes nearest to ``sizes``, none of which will do, among which one does.

    The distance from a range is |log(value / the range's nearer end)|. Nearest are the sizes with the least distance of
    width / height from the range of ratios; among those, the ones with the least distance of the area.

    Args:
        sizes: The sizes asked for.
        will_do: Whether some box of the given sizes will do. The whole image must.

    Returns:
        Sizes among which exactly those at the least distances will do (others may be among them that will not), and
        which limit gave way: ``"ratio"`` where that did, whether or not ``"scale"`` did also.
    """
    limit: Limit = "scale"
    if not will_do(sizes._replace(areas=(1, sizes.width * sizes.height))):
        limit = "ratio"
        asked, sizes = sizes, _nearest_ratios(sizes._replace(areas=(1, sizes.width * sizes.height)), will_do)
        sizes = sizes._replace(areas=asked.areas)
        if will_do(sizes):
            return sizes, limit
    return _nearest_areas(sizes, will_do), limit


def _nearest_ratios(sizes: Sizes, will_do: Callable[[Sizes], bool]) -> Sizes:
    low, high = sizes.ratios
    whole = sizes.width / sizes.height  # would do, so it lies outside the range

    def widened(distance: float) -> Sizes:
        return sizes._replace(ratios=(low * math.exp(-distance), high * math.exp(distance)))

    near, far = 0.0, max(math.log(low / whole), math.log(whole / high))
    while far - near > TOLERANCE / 10:  # ratios of whole numbers up to 10 000 are ten times farther apart
        middle = (near + far) / 2
        near, far = (near, middle) if will_do(widened(middle)) else (middle, far)
    # Leave out the side where none will do, and the range itself, to have as few sizes as possible to draw from.
    wide = sizes._replace(ratios=(high * math.exp(near), high * math.exp(far)))
    tall = sizes._replace(ratios=(low * math.exp(-far), low * math.exp(-near)))
    able = [side for side in (wide, tall) if will_do(side)]
    return able[0] if len(able) == 1 else widened(far)


def _nearest_areas(sizes: Sizes, will_do: Callable[[Sizes], bool]) -> Sizes:
    low, high = sizes.areas
    least, most = sizes.whole_areas()
    above = _first(most, sizes.width * sizes.height, lambda area: will_do(sizes._replace(areas=(most + 1, area))))
    distance_above = math.inf if above is None else math.log(above / high)
    # Below the range, only areas at no greater distance are of interest.
    floor = 1 if above is None else max(1, math.ceil(low * high / above * (1 - TOLERANCE)))
    shrunk = _first(0, least - floor, lambda step: will_do(sizes._replace(areas=(least - step, least - 1))))
    if shrunk is None:
        return sizes._replace(areas=(above or 1, above or 1))
    below = least - shrunk
    distance_below = math.log(low / below)
    if above is not None and abs(distance_above - distance_below) < TOLERANCE:
        return sizes._replace(areas=(below, above))
    nearest = below if above is None or distance_below < distance_above else above
    return sizes._replace(areas=(nearest, nearest))


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The least number in low + 1 .. high for which a condition holds that holds for all greater ones, or None."""
    if low >= high or not holds(high):
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
