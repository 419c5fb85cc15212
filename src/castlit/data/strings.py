"""Many strings in two arrays, which processes share without copying."""

from collections.abc import Sequence

import numpy as np


class StringArray:
    """A read-only sequence of strings, kept as UTF-8 bytes and offsets.

    A list of strings is copied page by page into every forked worker, because reading an element writes its reference
    count. Arrays are not.

    Args:
        values: The strings.
    """

    def __init__(self, values: Sequence[str]) -> None:
        encoded = [value.encode("utf-8", "surrogateescape") for value in values]
        self.offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(value) for value in encoded], out=self.offsets[1:])
        self.data = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} strings")
        index %= len(self)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("utf-8", "surrogateescape")
