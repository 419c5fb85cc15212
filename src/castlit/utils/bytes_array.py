"""Many strings in two arrays, which processes share without copying."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from castlit.utils.validation import InputError


class BytesArray:
    """A read-only sequence of byte strings, stored as one array of bytes and one of offsets.

    Forked workers copy a list page by page, because reading an element writes its reference count. They share arrays,
    which can also be mapped from a file.

    Args:
        data: All bytes, concatenated.
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

    @classmethod
    def collect(cls, values: Iterable[bytes], folder: Path | None = None) -> "BytesArray":
        """Pack an iterable into an unnamed file in ``folder``, so that it need not fit into memory."""
        lengths = array("q")
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closing it writes again, and would fail again
        try:
            for value in values:
                lengths.append(len(value))
                _write(file, value, folder)
            _write(file, None, folder)
            # The mapping keeps the unnamed file alive.
            data = np.memmap(file, np.uint8, "r") if sum(lengths) else np.empty(0, np.uint8)
        finally:
            with suppress(OSError):
                file.close()
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(np.frombuffer(lengths, np.int64), out=offsets[1:])
        return cls(np.asarray(data), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} strings")
        index %= len(self)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()


def _write(file: IO[bytes], value: bytes | None, folder: Path | None) -> None:
    try:
        file.flush() if value is None else file.write(value)
    except OSError as error:
        raise InputError(f"{folder or tempfile.gettempdir()}: no room for the index ({error.strerror})") from None


def encode_path(path: str) -> bytes:
    """A path's bytes in the file system, whatever the system's encoding."""
    return os.fsencode(path)


def decode_path(path: bytes) -> str:
    """The path with these bytes, as Python's functions on files take it."""
    return os.fsdecode(path)


def encode_text(text: str) -> bytes:
    """The bytes of a text, in which paths may not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(text: bytes) -> str:
    """The text of these bytes."""
    return text.decode("utf-8", "surrogateescape")
