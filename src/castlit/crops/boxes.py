"""Random crop boxes that hold their share of the salient objects (CAST, arXiv 2012.04630, section 3.1)."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box, CoverageTable, Need
from castlit.crops.sizes import SizeRange
from castlit.nn.checks import InputError, require_choice, require_int, require_number

Constraint = Literal["saliency", "pair"]

SIZE_TRIES = 20
"""Sizes drawn at random before the sizes that can satisfy the coverage are searched for."""


def sample_boxes(
    mask: NDArray[np.generic],
    count: int = 2,
    min_coverage: float = 0.2,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    rng: np.random.Generator | None = None,
    constraint: Constraint = "saliency",
) -> list[Box]:
    """Draw crop boxes that each cover at least ``min_coverage`` of the mask.

    The coverage of a box C is area(M ∩ C) / area(M). A size is drawn as in torchvision's ``RandomResizedCrop`` (area
    uniform in ``scale``, log of the aspect ratio uniform in ``ratio``, rounded to whole pixels); then the position is
    uniform among *all* positions of that size that satisfy the coverage, found with a summed-area table. A size that
    does not fit the image, or that satisfies the coverage nowhere, is drawn again.

    **When no size within ``scale`` and ``ratio`` will do**, the limits give way, each as little as it must:

    1. ``scale``: the box leaves the range only as far as needed. A very elongated image gives its largest box within
       ``ratio``, though that is less than ``scale[0]`` of the image; a large mask under a low ``scale[1]`` gives the
       smallest box within ``ratio`` that covers enough of it.
    2. ``ratio``: the box spans the short side of the image and is as long as the coverage requires.

    The coverage itself always holds, since the whole image covers the whole mask. An empty mask has nothing to cover:
    its boxes are unconstrained.

    Args:
        mask: (H, W) array of any numeric or boolean type, at least 1 × 1; nonzero is salient.
        count: Number of boxes, at least 1.
        min_coverage: Smallest share of the salient pixels in each box, in [0, 1]; 0 leaves the boxes unconstrained.
        scale: Range of the box's share of the image area, in (0, 1].
        ratio: Range of the box's width / height, above 0.
        rng: Source of the random draws; None uses a fresh, unpredictable one.
        constraint: ``"saliency"`` binds each box by the mask. ``"pair"`` asks in addition that every box after the
            first covers at least ``min_coverage`` of the salient pixels inside the first box.

    Returns:
        ``count`` boxes (x1, y1, x2, y2) of ints in pixels, half-open, inside the image.

    Raises:
        InputError: An argument is out of range, or ``mask`` is not two-dimensional or has no pixel.
    """
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.size == 0:
        raise InputError(f"mask must be a two-dimensional array with at least one pixel, got {_describe(mask)}")
    require_int("count", count, 1)
    require_number("min_coverage", min_coverage, 0, 1)
    require_choice("constraint", constraint, ("saliency", "pair"))
    sizes = SizeRange(mask.shape[1], mask.shape[0], scale, ratio)
    rng = np.random.default_rng() if rng is None else rng
    table = CoverageTable(mask)
    needs = [] if min_coverage == 0 or table.total == 0 else [table.need(min_coverage, table.frame)]
    boxes = [_sample_box(table, sizes, needs, rng)]
    if constraint == "pair" and needs:
        needs = [*needs, table.need(min_coverage, boxes[0])]
    boxes += [_sample_box(table, sizes, needs, rng) for _ in range(count - 1)]
    return boxes


def _sample_box(table: CoverageTable, sizes: SizeRange, needs: list[Need], rng: np.random.Generator) -> Box:
    for _ in range(SIZE_TRIES):
        size = sizes.draw(rng)
        if size is not None and (box := table.place(*size, needs, rng)) is not None:
            return box
    for search in (_allowed_size, _nearest_scale, _nearest_ratio):
        size = search(table, sizes, needs, rng)
        if size is not None and (box := table.place(*size, needs, rng)) is not None:
            return box
    return table.frame  # not reached: the last search ends at the whole image


def _allowed_size(
    table: CoverageTable, sizes: SizeRange, needs: list[Need], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A random size within scale and ratio that satisfies the needs somewhere, or None if there is none.

    For one aspect ratio, the best coverage grows with the area. So only each ratio's largest area has to be tried to
    know whether the ratio will do; and drawing the area again from above the last failure gives exactly the uniform
    distribution over the areas that will do.
    """
    candidates = [(r, high) for r in sizes.ratio_grid() if (high := sizes.largest_area(r)) is not None]
    for pick in rng.permutation(len(candidates)).tolist():
        r, high = candidates[pick]
        if not table.fits(*sizes.size(high, r), needs):
            continue
        low = sizes.area_range[0]
        for _ in range(SIZE_TRIES):
            area = low + (high - low) * rng.random()
            if table.fits(*sizes.size(area, r), needs):
                return sizes.size(area, r)
            low = area
        return sizes.size(high, r)
    return None


def _nearest_scale(
    table: CoverageTable, sizes: SizeRange, needs: list[Need], rng: np.random.Generator
) -> tuple[int, int] | None:
    """The size within ratio whose area is nearest to the range of scale and that satisfies the needs, or None."""
    best: tuple[float, tuple[int, int]] | None = None
    for r in sizes.ratio_grid():
        width = sizes.largest_fit(r)[0]
        if best is not None and best[0] > 0 and (area := best[1][0] * best[1][1]) > sizes.area_range[1]:
            width = min(width, max(1, int(math.sqrt(area * r))))  # what is larger is no nearer than the best so far
        if not table.fits(*sizes.of_width(width, r), needs):
            continue
        # The width alone steers the bisection: height follows from the ratio, and coverage grows with both.
        low, high = int(min(width, math.sqrt(sizes.area_range[0] * r))), width
        while low + 1 < high:
            middle = (low + high) // 2
            if table.fits(*sizes.of_width(middle, r), needs):
                high = middle
            else:
                low = middle
        size = sizes.of_width(high, r)
        distance = sizes.distance(size)
        if best is None or distance < best[0]:
            best = (distance, size)
    return None if best is None else best[1]


def _nearest_ratio(
    table: CoverageTable, sizes: SizeRange, needs: list[Need], rng: np.random.Generator
) -> tuple[int, int]:
    """The shortest box that spans the image's short side and satisfies the needs."""
    wide = table.width >= table.height
    low, high = 0, max(table.width, table.height)
    while low + 1 < high:
        middle = (low + high) // 2
        size = (middle, table.height) if wide else (table.width, middle)
        if table.fits(*size, needs):
            high = middle
        else:
            low = middle
    return (high, table.height) if wide else (table.width, high)


def _describe(value: object) -> str:
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
