"""The boxes of one image's views, drawn one by one as :class:`castlit.crops.BoxSampler` draws them together."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from castlit.crops.boxes import BoxSampler
from castlit.crops.coverage import Box


class SharedBoxes:
    """Draws the boxes of one image for transforms that do not know of each other.

    Boxes with the same settings from the same mask continue one draw: where boxes are rare, later ones depend on the
    first.

    Args:
        rng: Source of the random draws.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._last: tuple[BoxSampler, NDArray[np.generic], Iterator[Box]] | None = None
        self.relaxed: Counter[str] = Counter()
        """Boxes that exceed a limit, see :func:`castlit.crops.sample_boxes`."""

    def draw(self, sampler: BoxSampler, mask: NDArray[np.generic]) -> Box:
        """The next box; arguments and errors as in :func:`castlit.crops.sample_boxes`."""
        if self._last is None or vars(sampler) != vars(self._last[0]) or not np.array_equal(mask, self._last[1]):
            self._last = sampler, mask, sampler.draws(mask, self._rng, self.relaxed)
        return next(self._last[2])
