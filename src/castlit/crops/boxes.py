"""Random crop boxes that hold their share of the salient objects (CAST, arXiv 2012.04630, section 3.1)."""

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box, Mask, Need, pixels_needed
from castlit.crops.sizes import check_range
from castlit.crops.source import BoxSource, plan
from castlit.utils.validation import InputError, require_choice, require_int, require_number

Constraint = Literal["saliency", "pair"]
Law = Literal["uniform", "resized_crop"]


def sample_boxes(
    mask: NDArray[np.generic],
    count: int = 2,
    min_coverage: float = 0.2,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    rng: np.random.Generator | None = None,
    constraint: Constraint = "saliency",
    law: Law = "uniform",
    relaxed: Counter[str] | None = None,
) -> list[Box]:
    """Draw crop boxes that each cover at least ``min_coverage`` of the mask.

    A box of w × h whole pixels in an image of W × H is allowed if

    - scale[0] ≤ w·h / (W·H) ≤ scale[1],
    - ratio[0] ≤ w / h ≤ ratio[1], both up to a relative 1e-9, and
    - it holds at least ``min_coverage`` of all salient pixels; an empty mask asks for nothing.

    The boxes are drawn from exactly the allowed ones, independently, and by one of two laws:

    - ``"uniform"``: all allowed boxes are equally likely.
    - ``"resized_crop"``: the law of torchvision's ``RandomResizedCrop`` (area uniform in ``scale``, log of the ratio
      uniform in ``ratio``, position uniform in the image), given that the box is allowed: what drawing until it is
      would give. That law has a constant density in (w, h): all sizes are equally likely, and all positions of one
      size. So each allowed box is likely in proportion to 1 / ((W - w + 1)·(H - h + 1)), and large boxes, which have
      few positions, are drawn more often than under ``"uniform"``.

    **Where no box is allowed**, the limits give way, and by no more than they must; the distance from a range is
    |log(value / the range's nearer end)|. The coverage always holds, since the whole image covers the whole mask. Of
    the boxes that hold it, those are allowed instead that are nearest to ``ratio``, and among these those that are
    nearest to ``scale``; the law is the same. So ``scale`` gives way first, and ``ratio`` only where no scale will do:

    - A very elongated image gives its largest boxes within ``ratio``, though they are less than ``scale[0]`` of it.
    - A large mask under a low ``scale[1]`` gives the smallest boxes within ``ratio`` that cover enough of it.
    - A large mask in a very elongated image gives the shortest boxes across the image that cover enough.
    - A range too narrow for any size of whole pixels gives the nearest sizes that there are.

    Args:
        mask: (H, W) array of any numeric or boolean type, at least 1 × 1; nonzero is salient.
        count: Number of boxes, at least 1.
        min_coverage: Smallest share of the salient pixels in each box, in [0, 1]; 0 leaves the boxes unconstrained.
        scale: Range of the box's share of the image area, in (0, 1].
        ratio: Range of the box's width / height, above 0.
        rng: Source of the random draws; None uses a fresh, unpredictable one.
        constraint: ``"saliency"`` binds each box by the mask. ``"pair"`` asks in addition that every box after the
            first covers at least ``min_coverage`` of the salient pixels inside the first box.
        law: How likely each allowed box is, ``"uniform"`` or ``"resized_crop"``.
        relaxed: Counts here the boxes for which a limit gave way: under ``"ratio"`` where that did (whether or not the
            scale did also), else under ``"scale"``.

    Returns:
        ``count`` boxes (x1, y1, x2, y2) of ints in pixels, half-open, inside the image.

    Raises:
        InputError: An argument is out of range, or ``mask`` is not two-dimensional or has no pixel.
    """
    require_int("count", count, 1)
    sampler = BoxSampler(min_coverage, scale, ratio, constraint, law)
    return sampler(mask, count, np.random.default_rng() if rng is None else rng, relaxed)


class BoxSampler:
    """:func:`sample_boxes` with its settings checked once, for those who draw from many masks.

    Args:
        min_coverage: See :func:`sample_boxes`, as for the others.
        scale: Range of the box's share of the image area.
        ratio: Range of the box's width / height.
        constraint: ``"saliency"`` or ``"pair"``.
        law: ``"uniform"`` or ``"resized_crop"``.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        min_coverage: float = 0.2,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        constraint: Constraint = "saliency",
        law: Law = "uniform",
    ) -> None:
        self.min_coverage = require_number("min_coverage", min_coverage, 0, 1)
        self.scale, self.ratio = check_range("scale", scale, 1.0), check_range("ratio", ratio, None)
        self.pair = require_choice("constraint", constraint, ("saliency", "pair")) == "pair"
        self.by_size = require_choice("law", law, ("uniform", "resized_crop")) == "resized_crop"

    def __call__(
        self,
        mask: NDArray[np.generic],
        count: int,
        rng: np.random.Generator,
        relaxed: Counter[str] | None = None,
    ) -> list[Box]:
        """Draw ``count`` boxes; arguments and errors as in :func:`sample_boxes`.

        Args:
            mask: (H, W).
            count: Number of boxes.
            rng: Source of the random draws.
            relaxed: Counts the boxes for which a limit gave way.
        """
        if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.size == 0:
            raise InputError(f"mask must be a two-dimensional array with at least one pixel, got {_describe(mask)}")
        salient = Mask(mask)
        source = BoxSource(salient, plan(salient.width, salient.height, self.scale, self.ratio, self.by_size), rng)
        total = salient.count(salient.frame) if self.min_coverage > 0 else 0
        needs = [Need(pixels_needed(self.min_coverage, total), salient.frame)] if total else []
        boxes: list[Box] = []
        for index in range(count):
            if index == 1 and self.pair and needs:
                needs = [*needs, Need(pixels_needed(self.min_coverage, salient.count(boxes[0])), boxes[0])]
            boxes.append(source.draw(needs))
            if relaxed is not None and source.relaxed is not None:
                relaxed[source.relaxed] += 1
        return boxes


def _describe(value: object) -> str:
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
