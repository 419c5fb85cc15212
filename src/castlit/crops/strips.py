"""Proposals of boxes from a mask's two projections: none that its columns or its rows alone rule out."""

import math

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Boxes, CoverageTable, Need
from castlit.crops.sizes import SizeLaw, Sizes


class StripLaw:
    """Proposes boxes in proportion to their weight, among those whose two strips through the image hold enough.

    A box holds no more than the columns that it spans, over the full height, nor than the rows that it spans. Those
    two conditions concern one axis each, so the boxes that pass both can be counted, and drawn, without being listed.
    A proposal that holds enough itself is then a draw from all boxes that do.

    Args:
        table: Counts the salient pixels.
        needs: What every box must hold.
        sizes: The sizes allowed.
        by_size: Weigh a box by one over the number of positions that its size has in the image, so that all sizes
            weigh the same; otherwise all boxes weigh the same.
    """

    def __init__(self, table: CoverageTable, needs: list[Need], sizes: Sizes, by_size: bool) -> None:
        self._table, self._needs = table, needs
        self._across = Axis([(need.pixels, table.columns(need.region)) for need in needs], sizes.width)
        self._down = Axis([(need.pixels, table.rows(need.region)) for need in needs], sizes.height)
        low, high = sizes.heights()
        widths = np.arange(1, sizes.width + 1)
        for pixels, (x1, _, x2, _) in needs:
            low[1:] = np.maximum(low[1:], -(-pixels // np.minimum(widths, x2 - x1)))
        low = np.minimum(low, sizes.height + 1)
        across, down = (axis.starts.astype(np.float64) for axis in (self._across, self._down))
        self.boxes = SizeLaw(low, high, across, down).total
        """How many boxes may be proposed."""
        if by_size:
            across[1:] /= np.arange(sizes.width, 0, -1)
            down[1:] /= np.arange(sizes.height, 0, -1)
        self._sizes = SizeLaw(low, high, across, down)

    def propose(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ``count`` proposals; return those that satisfy the needs, (n, 4) as x1, y1, x2, y2."""
        u = rng.random((4, count))
        widths, heights = self._sizes.draw_many(u[0], u[1])
        x, y = self._across.pick(widths, u[2]), self._down.pick(heights, u[3])
        boxes: Boxes = (x, y, x + widths, y + heights)
        return np.stack(boxes, axis=1)[self._table.satisfy(boxes, self._needs)]


class Axis:
    """The start positions whose strips, of a given length along one axis, hold enough.

    Args:
        counts: For each need, its pixels, and the number of salient pixels before each coordinate 0 .. ``length``.
        length: Of the image along this axis, in pixels.
    """

    def __init__(self, counts: list[tuple[int, NDArray[np.int32]]], length: int) -> None:
        starts = np.arange(length)
        shortest = np.ones(length, np.int64)  # strip from each start that holds enough
        for pixels, before in counts:
            # Where no strip holds enough the search ends at length + 1, one pixel beyond the image.
            shortest = np.maximum(shortest, np.searchsorted(before, before[:-1] + pixels) - starts)
        # A start serves all lengths from the shortest up to the image's end. To find the n-th start that serves some
        # length, count them by blocks of starts: below[l, b] of them lie in the blocks before b.
        self._step = math.isqrt(length) + 1
        blocks = length // self._step + 1
        serving = starts + shortest <= length
        cells = (starts // self._step)[serving] * (length + 2)
        change = np.bincount(cells + shortest[serving], minlength=blocks * (length + 2))
        change -= np.bincount(cells + (length - starts + 1)[serving], minlength=blocks * (length + 2))
        by_length = change.reshape(blocks, length + 2).cumsum(axis=1, dtype=np.int32).T
        self._below = np.zeros((length + 2, blocks + 1), np.int32)
        np.cumsum(by_length, axis=1, out=self._below[:, 1:])
        self.starts: NDArray[np.int32] = self._below[:-1, -1]
        """For each length 0 .. ``length``, the number of starts that serve it."""
        self._length = length
        self._shortest = np.full((blocks, self._step), length + 1, np.int32)
        self._shortest.ravel()[:length] = shortest

    def pick(self, lengths: NDArray[np.int64], u: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each length, which must have a start, the start that belongs to a uniform number in [0, 1)."""
        below = self._below.take(lengths, axis=0)
        rank = (u * below[:, -1]).astype(np.int32)
        block = (below[:, 1:] > rank[:, None]).argmax(axis=1)
        rank -= below[np.arange(len(lengths)), block]
        # Starts too near the image's end are among these, but beyond all that serve.
        serving = self._shortest.take(block, axis=0) <= lengths[:, None]
        picked: NDArray[np.int64] = block * self._step + (
            serving.cumsum(axis=1, dtype=np.int32) > rank[:, None]
        ).argmax(axis=1)
        # Rounding alone can have led to a length without a start; such a box just may not leave the image.
        return np.minimum(picked, self._length - lengths)
