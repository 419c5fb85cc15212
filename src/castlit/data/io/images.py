"""Read image files of any common kind: grey, CMYK, alpha, 16-bit, rotated by EXIF."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.image_header import Encoded, is_jpeg

REDUCTIONS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factors by which a JPEG can be reduced while it is decoded, which saves most of the time."""

_TAIL = 65536  # bytes at the end of a JPEG in which its end marker must be


class EncodedImage:
    """An image that is decoded once its crops are known, at no higher resolution than they need.

    Args:
        data: The file's bytes.
        name: Its name in messages.
        size: (H, W) of the upright image.
    """

    def __init__(self, data: Encoded, name: str, size: tuple[int, int]) -> None:
        self.data, self.name = data, name
        self.shape = (*size, 3)

    def decode(self, reduction: int = 1) -> NDArray[np.uint8]:
        """Decode as (⌈H / reduction⌉, ⌈W / reduction⌉, 3) uint8 RGB, upright.

        Raises:
            SampleError: The bytes are cut short or no image.
        """
        return decode_image(self.data, self.name, reduction)

    @property
    def can_reduce(self) -> bool:
        """Whether decoding at a reduced size is faster: only for JPEG."""
        return is_jpeg(self.data)


def read_bytes(path: str | Path) -> Encoded:
    """Read a file.

    Raises:
        SampleError: It is missing, empty or cannot be opened; the message names it.
    """
    try:
        # Opening a named pipe would block.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a hot path, and Path.stat takes twice the time
            raise SampleError(f"{path}: is not a file")
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if data.size == 0:
        raise SampleError(f"{path}: the file is empty")
    return data


def file_state(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds of a file, links followed; (-1, -1) if there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116 - as above
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, upright: the EXIF orientation is applied.

    Grey is repeated over the channels, CMYK converted, 16 bit reduced to 8, alpha dropped.

    Raises:
        SampleError: The file is missing, empty, cut short or no image; the message names it.
    """
    return decode_image(read_bytes(path), str(path))


def decode_image(data: Encoded, name: str, reduction: int = 1) -> NDArray[np.uint8]:
    """Decode the bytes of an image as :func:`read_image` does.

    Args:
        data: The file's bytes.
        name: Its name in messages.
        reduction: 1, 2, 4 or 8: decode at a fraction of its size, rounded up.

    Raises:
        SampleError: The bytes are cut short or no image; the message gives the name.
    """
    refuse_cut_jpeg(data, name)
    image = decode(data, name, REDUCTIONS[reduction])
    if reduction > 1:  # OpenCV's reduced flags give BGR only
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.asarray(image, np.uint8)


def decode(data: Encoded, name: str, flags: int) -> NDArray[Any]:
    """Decode with OpenCV.

    Raises:
        SampleError: OpenCV cannot; the message gives the name.
    """
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise SampleError(f"{name}: cannot be decoded ({error.err})") from None
    if image is None:
        raise SampleError(f"{name}: is not an image that can be decoded")
    return np.asarray(image)


def refuse_cut_jpeg(data: Encoded, name: str) -> None:
    """Check that a JPEG has its end marker. Without it, OpenCV silently fills the missing part with grey.

    Raises:
        SampleError: The end marker is missing.
    """
    if is_jpeg(data) and b"\xff\xd9" not in data[2:][-_TAIL:].tobytes():
        raise SampleError(f"{name}: the JPEG is cut short")


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Silence OpenCV's own log lines about files that castlit reports on."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
