"""Many strings in two arrays, which processes share without copying."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class BytesArray:
    """A read-only sequence of byte strings, kept as one array of bytes and one of offsets.

    A list is copied page by page into every forked worker, because reading an element writes its reference count.
    Arrays are not, and can be mapped from a file.

    Args:
        data: All bytes, one after the other.
        offsets: Where each string starts, and where the last one ends: one more than there are strings, int64.
    """

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "BytesArray":
        """Pack a sequence."""
        offsets = np.zeros(len(values) + 1, np.int64)
        np.cumsum([len(value) for value in values], out=offsets[1:])
        return cls(np.frombuffer(b"".join(values), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} strings")
        index %= len(self)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()


def encode(name: str) -> bytes:
    """A path's bytes, also where the file system's are no UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """The path of these bytes."""
    return name.decode("utf-8", "surrogateescape")
