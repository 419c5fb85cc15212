"""Draws boxes that hold enough, however rare they are among the allowed ones."""

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box, CoverageTable, Need
from castlit.crops.covering import covering_boxes, find
from castlit.crops.sizes import Sizes
from castlit.crops.strips import StripLaw

FIRST_BATCH, LAST_BATCH = 64, 1 << 14
"""Proposals drawn at once: few at first, as often few are enough, and ever more."""

DOUBT = 4000
"""Proposals refused before it is found out for certain whether there is any box to be found."""

PATIENCE = 1_000_000
"""Proposals refused before all boxes are listed instead; fewer where few may be proposed, one for ``WORTH`` of them."""

WORTH = 10
"""Boxes that are looked at in a list, by cells, in about the time of one proposal."""

LISTED = 16
"""Boxes drawn from one list, for the draws to come."""


class Search:
    """Draws from all boxes of the ``sizes`` that satisfy the needs; every draw is independent and exact.

    Args:
        table: Counts the salient pixels.
        needs: What every box must hold, at least one need.
        sizes: The sizes allowed.
        by_size: The law, see :class:`castlit.crops.strips.StripLaw`.
        rng: Source of the random draws.
    """

    def __init__(
        self, table: CoverageTable, needs: list[Need], sizes: Sizes, by_size: bool, rng: np.random.Generator
    ) -> None:
        self.table, self.needs = table, needs
        self._sizes, self._by_size, self._rng = sizes, by_size, rng
        self._strips = StripLaw(table, needs, sizes, by_size)
        self._batch = FIRST_BATCH
        self._drawn: list[list[int]] = []
        self._sure = False

    def draw(self) -> Box | None:
        """Draw a box; None where no box satisfies the needs."""
        if self._strips.boxes == 0:
            return None
        refused = 0
        # Several proposals of one batch may be good. They are independent, so they serve the draws to come.
        while not self._drawn:
            if refused > DOUBT and not self._sure:
                if find(self.table, self.needs, self._sizes) is None:
                    return None
                self._sure = True
            if refused > min(PATIENCE, max(DOUBT, self._strips.boxes // WORTH)):
                self._drawn = self._draw_from_all()
                break
            self._drawn = self._strips.propose(self._batch, self._rng).tolist()
            refused += self._batch
            self._batch = min(2 * self._batch, LAST_BATCH)
        self._sure = True
        x1, y1, x2, y2 = self._drawn.pop()
        return x1, y1, x2, y2

    def _draw_from_all(self) -> list[list[int]]:
        """Draw ``LISTED`` boxes from a list of all that satisfy the needs, of which there must be one."""
        low, high = self._sizes.heights()
        widths = np.flatnonzero(low <= high)
        heights = high[widths]
        total, chosen = 0.0, np.empty((LISTED, 4), np.int64)
        # Greatest heights first: a width that has no good box of one height has none of a smaller one.
        while len(widths):
            good = np.zeros(self.table.width + 1, np.bool_)
            for boxes in covering_boxes(self.table, self.needs, widths, heights):
                weights = self._weights(boxes)
                total += weights.sum()
                # Replaced at these odds, each place holds every box of those so far with its share of the total.
                anew = self._rng.random(LISTED) * total <= weights.sum()
                chosen[anew] = self._rng.choice(boxes, anew.sum(), p=weights / weights.sum())
                good[boxes[:, 2] - boxes[:, 0]] = True
            left = good[widths] & (heights > low[widths])
            widths, heights = widths[left], heights[left] - 1
        listed: list[list[int]] = chosen.tolist()
        return listed

    def _weights(self, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self._by_size:
            return np.ones(len(boxes))
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        return np.asarray(1.0 / ((self.table.width - width + 1) * (self.table.height - height + 1)))
