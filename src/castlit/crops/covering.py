"""Exact search for the boxes of given sizes that hold enough: coarse to fine, by bounds from the summed-area table."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from castlit.crops.cells import Block, Cells, Groups, each, halve
from castlit.crops.coverage import CoverageTable, Need
from castlit.crops.sizes import Sizes

ROOT_CELLS = 4096
"""About as many cells the search starts from."""

CHUNK = 1 << 15
"""Cells looked at together, which bounds the memory."""

LEVEL_COST, CELL_COST, SIZE_COST, BOX_COST = 100.0, 0.15, 20.0, 0.0015
"""About how long it takes, in microseconds: another level, a cell in it; all boxes of one size, each one of them."""


def find(table: CoverageTable, needs: list[Need], sizes: Sizes) -> tuple[int, int] | None:
    """The (width, height) of some box that satisfies the needs; None if no box of the ``sizes`` does.

    What holds enough still does when it grows, so only the sizes that no other contains are looked at.
    """
    for boxes in covering_boxes(table, needs, *sizes.largest(), any_will_do=True):
        x1, y1, x2, y2 = boxes[len(boxes) // 2].tolist()  # of the middle one, which halves those still better
        return x2 - x1, y2 - y1
    return None


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
    until it is one box, or until it is cheaper to look at all boxes that are left: in noise the bounds help little.

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
    groups = [Groups(widths, heights, depth) for depth in range(level + 1)]
    g, x, y = np.indices([-(-extent >> level) for extent in free]).reshape(3, -1)
    stack: list[tuple[int, Cells]] = [(level, (g, x, y))]
    while stack:
        level, cells = stack.pop()
        if len(cells[0]) > CHUNK:
            stack.append((level, each(cells, slice(CHUNK, None))))
            cells = each(cells, slice(CHUNK))
        cells, union = groups[level].union(table, cells)
        promising = table.satisfy(union, needs)
        cells = each(cells, promising)
        if level == 0:
            if promising.any():
                yield np.stack(union, axis=1)[promising]
            continue
        if any_will_do:
            sample = groups[level].middles(table, cells)
            found = table.satisfy(sample, needs)
            if found.any():
                yield np.stack(sample, axis=1)[found]
        block = Block(level, cells)
        positions = block.positions(table)
        sizes = block.sizes(len(widths))
        if len(sizes) * (SIZE_COST + BOX_COST * positions) < level * LEVEL_COST + 16 * CELL_COST * len(cells[0]):
            yield from block.boxes(table, needs, widths, heights)
            continue
        stack.append((level - 1, halve(cells, groups[level - 1].count)))
