"""Exact search for the boxes of given sizes that hold enough: coarse to fine, by bounds from the summed-area table."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Boxes, CoverageTable, Need
from castlit.crops.sizes import Sizes

ROOT_CELLS = 4096
"""About as many cells the search starts from."""

CHUNK = 1 << 15
"""Cells looked at together, which bounds the memory."""

Cells = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Many cells of one level L: arrays of g, x, y, which stand for the sizes g·2^L .. (g + 1)·2^L - 1, alike for x, y."""


def exists(table: CoverageTable, needs: list[Need], sizes: Sizes) -> bool:
    """Whether any box of the ``sizes`` satisfies the needs.

    What holds enough still does when it grows, so only the sizes that no other contains have to be looked at.
    """
    widths, heights = sizes.largest()
    if not needs:
        return len(widths) > 0
    return any(True for _ in covering_boxes(table, needs, widths, heights, any_will_do=True))


def covering_boxes(
    table: CoverageTable,
    needs: list[Need],
    widths: NDArray[np.int64],
    heights: NDArray[np.int64],
    any_will_do: bool = False,
) -> Iterator[NDArray[np.int64]]:
    """Yield all boxes of the given sizes that satisfy the needs.

    A cell is a range of sizes, neighbours in the list, at a square of start positions. All its boxes lie in one union;
    where that does not hold enough, none of them does. Otherwise the cell is cut in half in all three directions,
    until it is one box.

    Args:
        table: Counts the salient pixels.
        needs: What the boxes must hold, at least one need.
        widths: (S,) of the sizes, in pixels.
        heights: (S,)
        any_will_do: The caller wants to know only whether there is one: one or more are yielded as soon as found.

    Yields:
        Not empty (n, 4) as x1, y1, x2, y2; all of them together are all boxes, each once.
    """
    large_enough = np.ones(len(widths), np.bool_)
    for pixels, (x1, y1, x2, y2) in needs:
        large_enough &= np.minimum(widths, x2 - x1) * np.minimum(heights, y2 - y1) >= pixels
    widths, heights = widths[large_enough], heights[large_enough]
    if len(widths) == 0:
        return
    free = (len(widths), table.width - int(widths.min()) + 1, table.height - int(heights.min()) + 1)
    level = 0
    while np.prod([-(-extent >> level) for extent in free]) > ROOT_CELLS:
        level += 1
    groups = [_Groups(widths, heights, depth) for depth in range(level + 1)]
    root = np.indices([-(-extent >> level) for extent in free]).reshape(3, -1)
    stack: list[tuple[int, Cells]] = [(level, (root[0], root[1], root[2]))]
    while stack:
        level, cells = stack.pop()
        if len(cells[0]) > CHUNK:
            stack.append((level, _each(cells, slice(CHUNK, None))))
            cells = _each(cells, slice(CHUNK))
        cells, union = groups[level].union(table, cells)
        promising = table.satisfy(union, needs)
        cells = _each(cells, promising)
        if len(cells[0]) == 0:
            continue
        if level == 0:
            yield np.stack(union, axis=1)[promising]
            continue
        if any_will_do:
            sample = _middles(table, widths, heights, level, cells)
            found = table.satisfy(sample, needs)
            if found.any():
                yield np.stack(sample, axis=1)[found]
        stack.append((level - 1, _halve(cells, len(groups[level - 1].width))))


class _Groups:
    """The extremes of each run of 2^level sizes."""

    def __init__(self, widths: NDArray[np.int64], heights: NDArray[np.int64], level: int) -> None:
        begins = np.arange(0, len(widths), 1 << level)
        self._level = level
        self.width = np.maximum.reduceat(widths, begins)
        self._height = np.maximum.reduceat(heights, begins)
        self._least_width = np.minimum.reduceat(widths, begins)
        self._least_height = np.minimum.reduceat(heights, begins)

    def union(self, table: CoverageTable, cells: Cells) -> tuple[Cells, Boxes]:
        """The cells that have any box inside the image, and for each the smallest box around all of its boxes."""
        size, x1, y1 = cells[0], cells[1] << self._level, cells[2] << self._level
        inside = (x1 + self._least_width[size] <= table.width) & (y1 + self._least_height[size] <= table.height)
        size, x1, y1 = size[inside], x1[inside], y1[inside]
        reach = (1 << self._level) - 1
        x2 = np.minimum(x1 + reach + self.width[size], table.width)
        y2 = np.minimum(y1 + reach + self._height[size], table.height)
        return _each(cells, inside), (x1, y1, x2, y2)


def _middles(
    table: CoverageTable, widths: NDArray[np.int64], heights: NDArray[np.int64], level: int, cells: Cells
) -> Boxes:
    """One box from near the middle of each cell."""
    half = 1 << (level - 1)
    size, x, y = ((index << level) + half for index in cells)
    size = np.minimum(size, len(widths) - 1)
    width, height = widths[size], heights[size]
    x, y = np.minimum(x, table.width - width), np.minimum(y, table.height - height)
    return x, y, x + width, y + height


def _halve(cells: Cells, groups: int) -> Cells:
    g, x, y = (2 * index for index in cells)
    steps = np.indices((2, 2, 2)).reshape(3, 8, 1)
    g, x, y = ((index + step).ravel() for index, step in zip((g, x, y), steps, strict=True))
    return _each((g, x, y), g < groups)


def _each(cells: Cells, chosen: NDArray[np.bool_] | slice) -> Cells:
    g, x, y = cells
    return g[chosen], x[chosen], y[chosen]
