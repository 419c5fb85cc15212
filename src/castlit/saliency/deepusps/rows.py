"""Many small images in one file: each is written once, and whatever kills the process, what is written stays."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Rows:
    """N arrays of bytes of one shape on disk; however many there are, they take next to no memory.

    A second file says which of them are there. They are written in the usual way and read through a mapping: writing to
    a mapping would end the process when the disk is full.

    Args:
        path: The file; made where there is none of the right length. Beside it is ``<path>.done``.
        count: N.
        shape: Of one array.

    Raises:
        OSError: The files cannot be made.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self._flags = path, (count, *shape), path.with_name(f"{path.name}.done")
        self._length = int(np.prod(shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        # The flags last: they must never speak of a file that is about to be made.
        for file, length in ((path, count * self._length), (self._flags, count)):
            if not file.exists() or file.stat().st_size != length:
                self._flags.unlink(missing_ok=True)
                with file.open("wb") as new:
                    new.truncate(length)

    @classmethod
    def complete(cls, path: Path, count: int, shape: tuple[int, ...]) -> bool:
        """Whether all of them are there; makes no file."""
        flags = path.with_name(f"{path.name}.done")
        sizes = ((path, count * int(np.prod(shape))), (flags, count))
        if any(not file.is_file() or file.stat().st_size != size for file, size in sizes):
            return False
        return not cls(path, count, shape).missing

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, index: int, values: NDArray[np.uint8], flag: int = 1) -> None:
        """Write one array, and then that it is there.

        Args:
            index: Which.
            values: Of the shape.
            flag: What :attr:`flags` shall say of it, 1 to 255.

        Raises:
            ValueError: It is of another shape.
            OSError: It cannot be written.
        """
        if values.shape != self.shape[1:] or values.dtype != np.uint8:
            raise ValueError(f"expected {self.shape[1:]} bytes, got {values.shape} {values.dtype}")
        _write(self.path, index * self._length, values.tobytes())
        _write(self._flags, index, bytes([flag]))

    @property
    def flags(self) -> NDArray[np.uint8]:
        """(N,): 0 where an array is not there yet."""
        return np.fromfile(self._flags, np.uint8)

    @property
    def missing(self) -> list[int]:
        """The numbers of those that are not there yet."""
        return [int(index) for index in np.flatnonzero(self.flags == 0)]

    @property
    def values(self) -> NDArray[np.uint8]:
        """(N, ...), read from the disk where it is looked at; 0 where an array is not there yet."""
        # A plain array over the mapping: indexing numpy's own memmap class takes several times as long.
        return np.asarray(np.memmap(self.path, np.uint8, "r", shape=self.shape))

    def remove(self) -> None:
        """Delete the files."""
        self._flags.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _write(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)
