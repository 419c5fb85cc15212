"""Random crop boxes that cover enough of the salient objects (CAST, arXiv 2012.04630, section 3.1)."""

from collections import Counter
from collections.abc import Iterator
from itertools import count as count_up
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box, Mask, Need, pixels_needed
from castlit.crops.rare_boxes import RareBoxes
from castlit.crops.sizes import Plan, check_range, plan
from castlit.utils.validation import InputError, require_choice, require_int, require_number

Constraint = Literal["saliency", "pair"]
Law = Literal["uniform", "resized_crop"]

QUICK_TRIES = 16
"""Boxes tried one by one before the summed-area table is built, which takes as long as these."""


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
    - it covers at least ``min_coverage`` of all salient pixels; with an empty mask every box does.

    The boxes are sampled from the allowed ones, independently, with one of two distributions:

    - ``"uniform"``: all allowed boxes are equally likely.
    - ``"resized_crop"``: the distribution of torchvision's ``RandomResizedCrop`` (area uniform in ``scale``, log of the
      ratio uniform in ``ratio``, position uniform in the image), given that the box is allowed. Its density is constant
      in (w, h): all sizes are equally likely, and so are all positions of one size. An allowed box is drawn in
      proportion to 1 / ((W - w + 1)·(H - h + 1)), so large boxes are drawn more often than under ``"uniform"``.

    Boxes are proposed until one is allowed. If a million in a row are refused, as can happen in noise, the box gets a
    random one of the largest allowed sizes, those that no other contains, at any of its allowed positions; the call's
    next boxes then get the same size.

    **Where no box is allowed**, the limits are relaxed, but the coverage never is:

    1. If no size in whole pixels is within ``ratio`` and ``scale``, the sizes nearest to ``ratio`` are used, and among
       them those nearest to ``scale``; the distance from a range is |log(value / the range's nearer end)|. So a very
       elongated image gives its largest boxes within ``ratio``, though they are less than ``scale[0]`` of it.
    2. If no box of these sizes covers enough, ``scale`` is exceeded: the box has the shape of the image's largest box
       within ``ratio``, and the smallest such size that covers enough.
    3. If that largest box does not cover enough either, ``ratio`` is exceeded: the box spans the image one way, and is
       as short as possible the other way.

    In 2 and 3, all positions where the size covers enough are equally likely.

    Args:
        mask: (H, W) array of any numeric or boolean type, at least 1 × 1; nonzero is salient.
        count: Number of boxes, at least 1.
        min_coverage: Smallest fraction of the salient pixels in each box, in [0, 1]; 0 leaves the boxes unconstrained.
        scale: Range of the box's fraction of the image area, in (0, 1].
        ratio: Range of the box's width / height, above 0.
        rng: Source of the random draws; None uses a fresh, unpredictable one.
        constraint: ``"saliency"``: each box must cover enough of the mask. ``"pair"``: in addition, every box after the
            first must cover at least ``min_coverage`` of the salient pixels inside the first box.
        law: The distribution, ``"uniform"`` or ``"resized_crop"``.
        relaxed: Counts here the boxes that exceed a limit: under ``"ratio"`` if they exceed that (whether or not they
            exceed the scale too), else under ``"scale"``.

    Returns:
        ``count`` boxes (x1, y1, x2, y2) of ints in pixels, half-open, inside the image.

    Raises:
        InputError: An argument is out of range, or ``mask`` is not two-dimensional or has no pixel.
    """
    require_int("count", count, 1)
    sampler = BoxSampler(min_coverage, scale, ratio, constraint, law)
    return sampler(mask, count, np.random.default_rng() if rng is None else rng, relaxed)


class BoxSampler:
    """:func:`sample_boxes` with its settings checked once, to draw from many masks.

    Args:
        min_coverage: See :func:`sample_boxes`, as for the others.
        scale: Range of the box's fraction of the image area.
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
        self, mask: NDArray[np.generic], count: int, rng: np.random.Generator, relaxed: Counter[str] | None = None
    ) -> list[Box]:
        """Draw ``count`` boxes; arguments and errors as in :func:`sample_boxes`."""
        return list(islice(self.draws(mask, rng, relaxed), count))

    def draws(
        self, mask: NDArray[np.generic], rng: np.random.Generator, relaxed: Counter[str] | None = None
    ) -> Iterator[Box]:
        """Draw boxes without end, as a call with their count does; each is drawn when it is asked for.

        Arguments and errors are as in :func:`sample_boxes`. The mask must not change meanwhile.
        """
        if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.size == 0:
            given = f"shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise InputError(f"mask must be a two-dimensional array with at least one pixel, got {given}")
        salient = Mask(mask)
        sizes = plan(salient.width, salient.height, self.scale, self.ratio, self.by_size)
        total = salient.count(salient.frame) if self.min_coverage > 0 else 0
        needs = [Need(pixels_needed(self.min_coverage, total), salient.frame)] if total else []
        rare: RareBoxes | None = None
        first: Box | None = None
        for index in count_up():
            if index == 1 and first and self.pair and needs:
                needs.append(Need(pixels_needed(self.min_coverage, salient.count(first)), first))
                if rare:
                    rare.require(needs[1])
            box = None if rare else _try_quickly(sizes, salient, needs, rng)
            if box is None:
                rare = rare or RareBoxes(sizes, salient, needs, rng)
                box = rare.draw()
            first = first or box
            limit = rare.relaxed if rare else sizes.relaxed
            if relaxed is not None and limit:
                relaxed[limit] += 1
            yield box


def _try_quickly(plan: Plan, mask: Mask, needs: list[Need], rng: np.random.Generator) -> Box | None:
    width, height = mask.width, mask.height
    for _ in range(QUICK_TRIES):
        u, v, s, t = rng.random(4).tolist()
        w, h = plan.distribution.draw(u, v)
        x, y = int(s * (width - w + 1)), int(t * (height - h + 1))
        box = (x, y, x + w, y + h)
        for need in needs:
            if not mask.satisfies(box, need):
                break
        else:
            return box
    return None
