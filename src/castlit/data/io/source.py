"""The interface of a source of images, one item of it, and the constants that normalise images."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import EncodedImage

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB in [0, 1]."""

Sample = dict[str, Any]
"""What a dataset returns for one item: arrays and numbers by name."""


class Item(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8] | EncodedImage
    """(H, W, 3) RGB, or an encoded image that decodes to it."""
    mask: NDArray[np.uint8] | None
    """(H, W), nonzero is salient; None if there is no mask."""
    label: int | None = None


class Source(Protocol):
    """Where images come from: files, or arrays in memory."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Item:
        """Image ``index``.

        Raises:
            SampleError: It cannot be read.
        """
        ...

    def give_up(self, index: int, error: SampleError) -> None:
        """Accept that image ``index`` is left out because of this error, or raise if the user wants that."""
        ...
