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
from castlit.data.io.image_header import JPEG_END, Encoded, has_end, is_jpeg, upright_size, why_impossible

REDUCTIONS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factors by which a JPEG can be reduced while it is decoded, which saves most of the time."""


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
            SampleError: The bytes are cut short or no image, or their header gives another size.
        """
        pixels = decode_image(self.data, self.name, reduction)
        height, width = (-(-side // reduction) for side in self.shape[:2])
        if pixels.shape[:2] != (height, width):
            # Crops and mask are made for the header's size.
            raise SampleError(
                f"{self.name}: its header says {width} x {height}, but its pixels are {pixels.shape[1]} x "
                f"{pixels.shape[0]}: save it again"
            )
        return pixels

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


def open_image(data: Encoded, name: str) -> EncodedImage | NDArray[np.uint8]:
    """An image that is decoded later if its header tells its size (JPEG, PNG), and at once otherwise.

    Args:
        data: The file's bytes.
        name: Its name in messages.

    Raises:
        SampleError: It had to be decoded, and the bytes are cut short or no image; the message gives the name.
    """
    size = upright_size(data)
    return decode_image(data, name) if size is None else EncodedImage(data, name, size)


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
    image = decode(data, name, REDUCTIONS[reduction])
    if reduction > 1:  # OpenCV's reduced flags give BGR only
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.asarray(image, np.uint8)


def decode(data: Encoded, name: str, flags: int) -> NDArray[Any]:
    """Decode with OpenCV.

    Raises:
        SampleError: OpenCV cannot; the message gives the name.
    """
    impossible = why_impossible(data)
    if impossible:
        raise SampleError(f"{name}: {impossible}")
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise SampleError(f"{name}: cannot be decoded ({error.err})") from None
    # OpenCV takes zeros, which file systems leave where the rest of a file was not written, for pixels.
    if is_jpeg(data) and not (data[-2:].tobytes() == JPEG_END or has_end(data)):
        raise SampleError(f"{name}: the JPEG is cut short")
    if image is None:
        raise SampleError(f"{name}: is not an image that can be decoded")
    return np.asarray(image)


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Silence OpenCV's own log lines about files that castlit reports on."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
