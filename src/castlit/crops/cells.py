"""Cells of boxes: ranges of sizes at squares of start positions, all a power of two long."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Boxes, CoverageTable, Need

Cells = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Many cells of one level L: arrays of g, x, y, which stand for the sizes g·2^L .. (g + 1)·2^L - 1, alike for x, y."""


def each(cells: Cells, chosen: NDArray[np.bool_] | slice) -> Cells:
    """Some of the cells."""
    g, x, y = cells
    return g[chosen], x[chosen], y[chosen]


def halve(cells: Cells, groups: int) -> Cells:
    """The eight cells of the next finer level inside each; only those of the first ``groups`` groups exist."""
    steps = np.indices((2, 2, 2)).reshape(3, 8, 1)
    g, x, y = ((2 * index + step).ravel() for index, step in zip(cells, steps, strict=True))
    return each((g, x, y), g < groups)


class Groups:
    """The sizes of one level, in runs of 2^level.

    Args:
        widths: (S,) of all sizes, in pixels.
        heights: (S,)
        level: Of the cells.
    """

    def __init__(self, widths: NDArray[np.int64], heights: NDArray[np.int64], level: int) -> None:
        begins = np.arange(0, len(widths), 1 << level)
        self.count = len(begins)
        self._level, self._widths, self._heights = level, widths, heights
        self._widest, self._tallest = np.maximum.reduceat(widths, begins), np.maximum.reduceat(heights, begins)
        self._narrowest, self._lowest = np.minimum.reduceat(widths, begins), np.minimum.reduceat(heights, begins)

    def union(self, table: CoverageTable, cells: Cells) -> tuple[Cells, Boxes]:
        """The cells that may have a box inside the image, and for each the smallest box around all that it has."""
        group, x1, y1 = cells[0], cells[1] << self._level, cells[2] << self._level
        inside = (x1 + self._narrowest[group] <= table.width) & (y1 + self._lowest[group] <= table.height)
        group, x1, y1 = group[inside], x1[inside], y1[inside]
        reach = (1 << self._level) - 1
        x2 = np.minimum(x1 + reach + self._widest[group], table.width)
        y2 = np.minimum(y1 + reach + self._tallest[group], table.height)
        return each(cells, inside), (x1, y1, x2, y2)

    def middles(self, table: CoverageTable, cells: Cells) -> Boxes:
        """One box from near the middle of each cell."""
        size, x, y = ((index << self._level) + (1 << self._level >> 1) for index in cells)
        size = np.minimum(size, len(self._widths) - 1)
        width, height = self._widths[size], self._heights[size]
        x, y = np.minimum(x, table.width - width), np.minimum(y, table.height - height)
        return x, y, x + width, y + height


class Block:
    """All boxes of some cells, to be looked at size by size.

    Args:
        level: Of the cells.
        cells: Any number.
    """

    def __init__(self, level: int, cells: Cells) -> None:
        self._level = level
        self._low = [int(index.min(initial=1 << 62)) for index in cells]
        shape = [max(0, int(index.max(initial=-1)) - low + 1) for index, low in zip(cells, self._low, strict=True)]
        self._cells = np.zeros(shape, np.bool_)
        g, x, y = (index - low for index, low in zip(cells, self._low, strict=True))
        self._cells[g, x, y] = True

    def sizes(self, count: int) -> NDArray[np.int64]:
        """Which of all ``count`` sizes the cells have, in an order that leaves no large gap at any time."""
        groups = np.flatnonzero(self._cells.any(axis=(1, 2))) + self._low[0]
        sizes = ((groups << self._level)[:, None] + np.arange(1 << self._level)).ravel()
        sizes = sizes[sizes < count]
        return sizes[np.argsort(np.arange(len(sizes)) * 0.6180339887498949 % 1)]

    def positions(self, table: CoverageTable) -> int:
        """About how many start positions there are for each size, also between the cells."""
        across, down = (int(extent) << self._level for extent in self._cells.shape[1:])
        return min(across, table.width) * min(down, table.height)

    def boxes(
        self, table: CoverageTable, needs: list[Need], widths: NDArray[np.int64], heights: NDArray[np.int64]
    ) -> Iterator[NDArray[np.int64]]:
        """Yield all boxes of the cells that satisfy the needs, not empty (n, 4) as x1, y1, x2, y2."""
        _, across, down = self._cells.shape
        first_x, first_y = self._low[1] << self._level, self._low[2] << self._level
        for size in self.sizes(len(widths)):
            width, height = int(widths[size]), int(heights[size])
            xs = range(first_x, min(first_x + (across << self._level), table.width - width + 1))
            ys = range(first_y, min(first_y + (down << self._level), table.height - height + 1))
            if not xs or not ys:
                continue
            y, x = np.nonzero(table.satisfy_at(width, height, xs, ys, needs))
            own = self._cells[(size >> self._level) - self._low[0], x >> self._level, y >> self._level]
            if own.any():
                x, y = x[own] + first_x, y[own] + first_y
                yield np.stack([x, y, x + width, y + height], axis=1)
