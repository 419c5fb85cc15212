"""Many small images in one file, with flags for those written, so that a killed process loses nothing."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Rows:
    """N arrays of bytes of one shape on disk.

    A second file flags those that are written. They are read through a memory map but written with ordinary writes: on
    a full disk, writing to a memory map would kill the process.

    Args:
        path: The file; created if there is none of the right length. The flags are in ``<path>.done``.
        count: N.
        shape: Of one array.

    Raises:
        OSError: The files cannot be created.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self._flags = path, (count, *shape), path.with_name(f"{path.name}.done")
        self._length = int(np.prod(shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        # The flags last: they must not refer to a file that is about to be created.
        for file, length in ((path, count * self._length), (self._flags, count)):
            if not file.exists() or file.stat().st_size != length:
                self._flags.unlink(missing_ok=True)
                with file.open("wb") as new:
                    new.truncate(length)

    @classmethod
    def complete(cls, path: Path, count: int, shape: tuple[int, ...]) -> bool:
        """Whether all arrays are written; creates no file."""
        flags = path.with_name(f"{path.name}.done")
        sizes = ((path, count * int(np.prod(shape))), (flags, count))
        if any(not file.is_file() or file.stat().st_size != size for file, size in sizes):
            return False
        return not cls(path, count, shape).missing

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, index: int, values: NDArray[np.uint8], flag: int = 1) -> None:
        """Write one array, then its flag.

        Args:
            index: The array's index.
            values: uint8, of the shape.
            flag: Its value in :attr:`flags`, 1 to 255.

        Raises:
            ValueError: The shape or type is another.
            OSError: The array cannot be written.
        """
        if values.shape != self.shape[1:] or values.dtype != np.uint8:
            raise ValueError(f"expected {self.shape[1:]} bytes, got {values.shape} {values.dtype}")
        _write(self.path, index * self._length, values.tobytes())
        _write(self._flags, index, bytes([flag]))

    @property
    def flags(self) -> NDArray[np.uint8]:
        """(N,): 0 if the array is not written yet."""
        return np.fromfile(self._flags, np.uint8)

    @property
    def missing(self) -> list[int]:
        """Indices of the arrays that are not written yet."""
        return [int(index) for index in np.flatnonzero(self.flags == 0)]

    @property
    def values(self) -> NDArray[np.uint8]:
        """(N, ...), read from the disk on access; 0 if an array is not written yet."""
        # A plain array: indexing numpy's memmap class takes several times as long.
        return np.asarray(np.memmap(self.path, np.uint8, "r", shape=self.shape))

    def remove(self) -> None:
        """Delete the files."""
        self._flags.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _write(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)
