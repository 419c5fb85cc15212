"""Where images come from, whatever holds them: the interface of a source, and one image of it."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import EncodedImage

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB in [0, 1]."""

Sample = dict[str, Any]


class Item(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8] | EncodedImage
    """(H, W, 3) RGB, or what decodes to that."""
    mask: NDArray[np.uint8] | None
    """(H, W), nonzero is salient; None where there is no mask."""
    label: int | None = None


class Source(Protocol):
    """Where images come from: files, or arrays in memory."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Item:
        """Image ``index``.

        Raises:
            SampleError: It cannot be had.
        """
        ...

    def give_up(self, index: int, error: SampleError) -> None:
        """Let image ``index`` be left out for this error; or raise, where the user wants to know at once."""
        ...
