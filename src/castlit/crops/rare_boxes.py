"""Draws boxes that cover enough where few boxes or none do, in bounded time.

1. Boxes are proposed, thousands at a time, and the first that covers enough is used: all allowed boxes are drawn with
   their distribution. No box is proposed if all the columns or all the rows that it spans contain too little.
2. After ``CHECK_AFTER`` refused proposals, the largest sizes are checked at all their positions. A box that covers
   enough still does when it grows; so if none of them fits, no box is allowed, and a larger size is used.
3. After ``GIVE_UP_AFTER`` refused proposals, one of the largest sizes that fit is used. Boxes are that rare in noise,
   but in none of 2,255 masks of photographs; an exact draw could take hours.
"""

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box, Mask, Need
from castlit.crops.sizes import Integers, Plan, SizeDistribution

FIRST_BATCH, LAST_BATCH = 64, 1 << 14
"""Boxes proposed at once; each batch is twice as large as the one before."""

CHECK_AFTER = 1 << 12
"""Refused proposals before the largest sizes are checked, which takes longer than these."""

GIVE_UP_AFTER = 1 << 20
"""Refused proposals before the largest sizes are used: 0.1 to 0.3 seconds."""

ROWS = (64, 16, 4, 1)
"""Rows of positions checked together, coarse to fine."""


class RareBoxes:
    """Draws boxes that satisfy the needs from one image.

    Args:
        plan: For images of this size.
        mask: To which the needs refer.
        needs: What every box must contain. The full image must contain it.
        rng: Source of the random draws.
    """

    def __init__(self, plan: Plan, mask: Mask, needs: list[Need], rng: np.random.Generator) -> None:
        self._plan, self._mask, self._rng = plan, mask, rng
        self._width, self._height = mask.width, mask.height
        self._needs = [(need.pixels, mask.table(need.region)) for need in needs]
        self._size: tuple[int, int] | None = None  # one that fits, once it had to be found
        self._none_allowed = False
        self.relaxed = plan.relaxed
        """The limit that the last box exceeds."""
        self._prepare()

    def require(self, need: Need) -> None:
        """Add a need for the next boxes."""
        self._needs.append((need.pixels, self._mask.table(need.region)))
        self._size = None
        self._prepare()

    def draw(self) -> Box:
        """Draw a box."""
        while not self._accepted:
            if self._size is None and (self._none_allowed or self._refused >= CHECK_AFTER):
                self._size = (None if self._none_allowed else self._find_largest()) or self._relax()
            if self._size and (self._none_allowed or self._refused >= GIVE_UP_AFTER):
                return self._draw_position(*self._size)
            self._propose()
        x1, y1, x2, y2 = self._accepted.pop()
        return x1, y1, x2, y2

    def _prepare(self) -> None:
        """Find out which boxes to propose: none whose columns or rows alone contain too little."""
        self._accepted: list[list[int]] = []
        self._batch, self._refused = FIRST_BATCH, 0
        projections = [(pixels, table.projections()) for pixels, table in self._needs]
        self._first_x, self._across = starts(self._width, [(pixels, left) for pixels, (left, _) in projections])
        self._first_y, self._down = starts(self._height, [(pixels, above) for pixels, (_, above) in projections])
        weights = [self._across.astype(np.float64), self._down.astype(np.float64)]
        if self._plan.by_size:
            weights = [counts / np.arange(len(counts), 0, -1) for counts in weights]
        self._distribution = SizeDistribution(*self._plan.sizes.heights(), *weights)
        self._none_allowed |= self._distribution.total == 0

    def _propose(self) -> None:
        u, v, s, t = self._rng.random((4, self._batch))
        widths, heights = self._distribution.draw_many(u, v)
        x = self._first_x[widths] + (s * self._across[widths]).astype(np.int64)
        y = self._first_y[heights] + (t * self._down[heights]).astype(np.int64)
        boxes = np.stack([x, y, x + widths, y + heights], axis=1)
        for pixels, table in self._needs:
            boxes = boxes[table.count(boxes) >= pixels]
        # All of them are independent draws, so the others serve the next calls.
        self._accepted = boxes.tolist()
        self._refused = 0 if self._accepted else self._refused + self._batch
        self._batch = min(2 * self._batch, LAST_BATCH)

    def _find_largest(self) -> tuple[int, int] | None:
        """A random one of the largest sizes that fit; None if no box is allowed."""
        widths, heights = self._plan.sizes.largest()
        order = self._rng.permutation(len(widths))
        sizes = zip(widths[order].tolist(), heights[order].tolist(), strict=True)
        return next((size for size in sizes if self._fits(*size)), None)

    def _relax(self) -> tuple[int, int]:
        """The smallest size that fits, in a series that grows to the full image."""
        widths, heights, within_ratio = self._plan.sizes.growing()
        low, high = 0, len(widths) - 1  # the last one fits, and so do all that are larger than one that fits
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(int(widths[middle]), int(heights[middle])) else (middle + 1, high)
        self._none_allowed = True
        self.relaxed = "ratio" if low >= within_ratio or self._plan.relaxed == "ratio" else "scale"
        return int(widths[low]), int(heights[low])

    def _fits(self, width: int, height: int) -> bool:
        """Whether a box of this size satisfies the needs at any position."""
        rows, group = np.zeros(1, np.int64), self._height
        for finer in ROWS:
            rows = (rows[:, None] + np.arange(0, group, finer)).ravel()
            rows = rows[rows <= self._height - height]
            # One taller box contains the boxes of all rows of a group.
            rows, group = rows[self._allowed(width, height + finer - 1, rows).any(axis=1)], finer
        return len(rows) > 0

    def _draw_position(self, width: int, height: int) -> Box:
        allowed = self._allowed(width, height, np.arange(self._height - height + 1))
        y, x = divmod(int(self._rng.choice(np.flatnonzero(allowed))), allowed.shape[1])
        return x, y, x + width, y + height

    def _allowed(self, width: int, height: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a box of this size satisfies the needs, at all positions with y1 in ``rows``; (len(rows), X)."""
        allowed = np.ones((len(rows), self._width - width + 1), np.bool_)
        for pixels, table in self._needs:
            allowed &= table.reaches(pixels, width, height, rows)
        return allowed


def starts(length: int, needs: list[tuple[int, NDArray[np.int32]]]) -> tuple[Integers, Integers]:
    """Where strips of columns (or rows) can start and contain enough: a range for each strip width.

    Args:
        length: Number of columns.
        needs: Salient pixels that a strip must contain, and the number of them before each column 0 .. ``length``.

    Returns:
        For each width 0 .. ``length``, the first start and the number of starts up to the last; 0 where there is none.
    """
    begins = np.arange(length)
    first, last = np.zeros(length + 1, np.int64), np.arange(length, -1, -1)
    for pixels, before in needs:
        ends = np.searchsorted(before, before[:-1] + pixels)  # where the narrowest strip from each start ends
        exists = ends <= length
        narrowest, begin = (ends - begins)[exists], begins[exists]
        earliest, latest = np.full(length + 1, length), np.full(length + 1, -1)
        np.minimum.at(earliest, narrowest, begin)
        np.maximum.at(latest, narrowest, begin)
        first = np.maximum(first, np.minimum.accumulate(earliest))
        last = np.minimum(last, np.maximum.accumulate(latest))
    return np.minimum(first, np.arange(length, -1, -1)), np.maximum(last - first + 1, 0)
