"""Choose the masks that the preview shows."""

import hashlib
import heapq
from typing import NamedTuple

from castlit.saliency.pipeline.quality import Quality


class Sample(NamedTuple):
    """A mask in the preview."""

    name: str
    """Its image's path below the images' folder."""
    quality: Quality


class PreviewSampler:
    """Keeps the worst masks and a random sample of the others, in one pass.

    The sample is drawn by a hash of the name, so it does not depend on the order, nor on restarts.

    Args:
        count: Number of masks to keep; half of them are the worst.
    """

    def __init__(self, count: int) -> None:
        self._most_worst = (count + 1) // 2
        self._most_drawn = count  # some of these may be among the worst
        self._count = count
        self._worst: list[tuple[float, str, Quality]] = []
        self._drawn: list[tuple[bytes, str, Quality]] = []

    def offer(self, name: str, quality: Quality) -> None:
        """Consider a mask for the preview."""
        _keep(self._worst, (quality.badness, name, quality), self._most_worst)
        _keep(self._drawn, (hashlib.blake2b(name.encode("utf-8", "replace")).digest(), name, quality), self._most_drawn)

    @property
    def worst(self) -> list[Sample]:
        """The worst masks, the worst first."""
        return [Sample(name, quality) for _, name, quality in sorted(self._worst, reverse=True)]

    @property
    def drawn(self) -> list[Sample]:
        """The random sample of the others, the worst first."""
        worst = {sample.name for sample in self.worst}
        others = [item for item in sorted(self._drawn, reverse=True) if item[1] not in worst]
        found = [Sample(name, quality) for _, name, quality in others[: self._count - len(worst)]]
        return sorted(found, key=lambda sample: sample.quality.badness, reverse=True)


def _keep(heap: list, item: tuple, most: int) -> None:  # type: ignore[type-arg]
    """Keep the largest ``most`` items."""
    if most == 0:
        return
    (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, item)
