"""Images by their paths, with labels, as a source for castlit's datasets."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import file_state, open_image, read_bytes
from castlit.data.io.source import Item, Source
from castlit.utils.bytes_array import BytesArray, decode, encode


class Images(Source, Protocol):
    """A source with a state, which identifies cached features."""

    def state(self) -> bytes:
        """Bytes that change when an image does."""
        ...


class ImageList:
    """Image files, all of which must be readable: leaving one out would make metrics incomparable.

    Args:
        paths: The files.
        labels: (N,) integers; None if images have none.
    """

    def __init__(self, paths: Sequence[str], labels: NDArray[np.int64] | None = None) -> None:
        self._paths = BytesArray.of([encode(path) for path in paths])
        self.labels = labels

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> str:
        """Return the path of image ``index``."""
        return decode(self._paths[index])

    def read(self, index: int) -> Item:
        """Read image ``index``; a JPEG or PNG is not decoded yet.

        Raises:
            SampleError: It cannot be read.
        """
        path = self.path(index)
        label = None if self.labels is None else int(self.labels[index])
        return Item(open_image(read_bytes(path), path), None, label)

    def give_up(self, index: int, error: SampleError) -> None:
        """Raise.

        Raises:
            SampleError: Always; it names the file.
        """
        raise SampleError(f"{error}: repair or remove this file, an evaluation cannot skip images")

    def subset(self, indices: NDArray[np.int64]) -> "ImageList":
        """Return some of the images, in this order."""
        return ImageList([self.path(int(i)) for i in indices], None if self.labels is None else self.labels[indices])

    def state(self) -> bytes:
        """Paths, sizes and modification times."""
        return encode("\n".join(f"{path} {file_state(path)}" for path in map(self.path, range(len(self)))))
