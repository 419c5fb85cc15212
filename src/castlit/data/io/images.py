"""Read image files as people have them: grey, CMYK, alpha, 16-bit, rotated by EXIF."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castlit.data.io.errors import SampleError

Encoded = NDArray[np.uint8]
"""The bytes of a file."""

REDUCTIONS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""By how much a JPEG can be reduced while it is decoded, which saves most of the time."""

_TAIL = 65536
ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap width and height
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class EncodedImage:
    """An image that is decoded when its crops are known, and no larger than they need.

    Args:
        data: The file's bytes.
        name: What messages call it.
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
        """Whether decoding at a reduced size is faster: only JPEG has the means."""
        return is_jpeg(self.data)


def read_bytes(path: str | Path) -> Encoded:
    """Read a file.

    Raises:
        SampleError: It is missing, empty or cannot be opened; the message names it.
    """
    try:
        # Opening a pipe would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a hot path, and Path.stat takes twice the time
            raise SampleError(f"{path}: is not a file")
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if data.size == 0:
        raise SampleError(f"{path}: the file is empty")
    return data


def file_state(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds of a file, through links; (-1, -1) where there is none."""
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
        name: What messages call it.
        reduction: 1, 2, 4 or 8: decode at a fraction of its size, rounded up.

    Raises:
        SampleError: The bytes are cut short or no image; the message gives the name.
    """
    refuse_cut_jpeg(data, name)
    image = decode(data, name, REDUCTIONS[reduction])
    if reduction > 1:  # OpenCV knows these in BGR only
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


def image_size(data: Encoded, name: str) -> tuple[int, int]:
    """(H, W) of an image as shown upright, from its header alone.

    Raises:
        SampleError: There is no header that says so; the message gives the name.
    """
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) in _SIDEWAYS
    except _DECODE_ERRORS as error:
        raise SampleError(f"{name}: is not an image that can be decoded ({_first_line(error)})") from None
    return (width, height) if turned else (height, width)


def orientation(data: Encoded) -> int:
    """The EXIF orientation of an image, 1 (upright) where it does not say."""
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    except _DECODE_ERRORS:
        return 1


def stored_size(data: Encoded) -> tuple[int, int] | None:
    """(H, W) of a JPEG or PNG as stored, not turned, in microseconds; None for other files."""
    head = data[:32].tobytes()
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    if not is_jpeg(data):
        return None
    at = 2
    while at + 9 <= data.size:
        segment = data[at : at + 9].tobytes()
        if segment[0] != 0xFF:
            return None
        # The start-of-frame segments, which are C0 to CF without the tables C4, C8 and CC.
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
        at += 2 + int.from_bytes(segment[2:4], "big")
    return None


def is_jpeg(data: Encoded) -> bool:
    """Whether these bytes start as a JPEG does."""
    return data[:2].tobytes() == b"\xff\xd8"


def refuse_cut_jpeg(data: Encoded, name: str) -> None:
    """OpenCV fills the missing part of a JPEG with grey and says nothing; the end marker tells.

    Raises:
        SampleError: The end marker is missing.
    """
    if is_jpeg(data) and b"\xff\xd9" not in data[2:][-_TAIL:].tobytes():
        raise SampleError(f"{name}: the JPEG is cut short")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Keep OpenCV from writing its own lines about files that castlit reports on."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
