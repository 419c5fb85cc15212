"""Draws the boxes of one mask: at once where most boxes will do, by search where few will, relaxed where none will."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from castlit.crops.coverage import Box, CoverageTable, Mask, Need
from castlit.crops.covering import find
from castlit.crops.relax import Limit, relax
from castlit.crops.search import Search
from castlit.crops.sizes import SizeLaw, Sizes

QUICK_TRIES = 16
"""Boxes tried one by one before the search is set up, which takes as long as these."""


class Plan(NamedTuple):
    """What is known about the boxes of an image before its mask."""

    asked: Sizes
    nearest: Sizes
    """The sizes asked for, or the nearest to them where the image has none."""
    relaxed: Limit | None
    """What gave way for that."""
    law: SizeLaw
    """Of ``nearest``, together with ``by_size``."""
    by_size: bool


@lru_cache(maxsize=512)
def plan(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], by_size: bool) -> Plan:
    """The plan for an image of this size. ``by_size``: all sizes weigh the same, otherwise all boxes do."""
    asked = Sizes.of(width, height, scale, ratio)
    nearest, relaxed = (asked, None) if asked.any() else relax(asked, Sizes.any)
    if by_size:
        across, down = np.ones(width + 1), np.ones(height + 1)
    else:  # the number of positions of each width and each height
        across, down = np.arange(width + 1.0, 0, -1), np.arange(height + 1.0, 0, -1)
    return Plan(asked, nearest, relaxed, SizeLaw(*nearest.heights(), across, down), by_size)


class BoxSource:
    """Draws boxes that satisfy needs.

    Args:
        mask: To which the needs refer.
        plan: For images of this size.
        rng: Source of the random draws.
    """

    def __init__(self, mask: Mask, plan: Plan, rng: np.random.Generator) -> None:
        self._mask, self._plan, self._rng = mask, plan, rng
        self.relaxed = plan.relaxed
        """What gave way for the last box."""
        self._sizes = plan.nearest
        self._table: CoverageTable | None = None
        self._search: Search | None = None

    def draw(self, needs: list[Need]) -> Box:
        """Draw a box. The needs may change from box to box only to those that a box drawn before satisfies too."""
        if self._search is None:
            box = self._try_quickly(needs)
            if box is not None:
                return box
        if self._search is None or self._search.needs is not needs:
            self._table = self._table or self._mask.table()
            self._search = Search(self._table, needs, self._sizes, self._plan.by_size, self._rng)
        box = self._search.draw()
        if box is None:
            self._search = self._relax(self._search)
            box = self._search.draw()
        assert box is not None  # the whole image holds everything
        return box

    def _relax(self, search: Search) -> Search:
        """The search among the sizes nearest to those asked for, where ``search`` found none."""
        table, needs = search.table, search.needs
        self._sizes, self.relaxed = relax(self._plan.asked, lambda sizes: find(table, needs, sizes))
        return Search(table, needs, self._sizes, self._plan.by_size, self._rng)

    def _try_quickly(self, needs: list[Need]) -> Box | None:
        width, height = self._mask.width, self._mask.height
        for _ in range(QUICK_TRIES):
            u, v, s, t = self._rng.random(4).tolist()
            w, h = self._plan.law.draw(u, v)
            x, y = int(s * (width - w + 1)), int(t * (height - h + 1))
            box = (x, y, x + w, y + h)
            for need in needs:
                if not self._mask.satisfies(box, need):
                    break
            else:
                return box
        return None
