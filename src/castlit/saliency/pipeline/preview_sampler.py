"""Which masks to look at, of any number."""

import hashlib
import heapq
from typing import NamedTuple

from castlit.saliency.pipeline.quality import Figures


class Sample(NamedTuple):
    """A mask to look at."""

    name: str
    """Its image's path below the images' folder."""
    figures: Figures


class Choice:
    """Keeps the worst masks and some drawn by chance, while masks come along.

    The draw goes by a hash of the name: the same whatever the order, and however often a run was started again.

    Args:
        count: How many to keep: half of them the worst.
    """

    def __init__(self, count: int) -> None:
        self._most_worst = (count + 1) // 2
        self._most_drawn = count  # some of the drawn may be among the worst
        self._count = count
        self._worst: list[tuple[float, str, Figures]] = []
        self._drawn: list[tuple[bytes, str, Figures]] = []

    def offer(self, name: str, figures: Figures) -> None:
        """Consider a mask."""
        _keep(self._worst, (figures.doubt, name, figures), self._most_worst)
        _keep(self._drawn, (hashlib.blake2b(name.encode("utf-8", "replace")).digest(), name, figures), self._most_drawn)

    @property
    def worst(self) -> list[Sample]:
        """The worst, the very worst first."""
        return [Sample(name, figures) for _, name, figures in sorted(self._worst, reverse=True)]

    @property
    def drawn(self) -> list[Sample]:
        """Those drawn from all others, the worst first."""
        worst = {sample.name for sample in self.worst}
        others = [item for item in sorted(self._drawn, reverse=True) if item[1] not in worst]
        found = [Sample(name, figures) for _, name, figures in others[: self._count - len(worst)]]
        return sorted(found, key=lambda sample: sample.figures.doubt, reverse=True)


def _keep(heap: list, item: tuple, most: int) -> None:  # type: ignore[type-arg]
    """Keep the greatest."""
    if most == 0:
        return
    (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, item)
