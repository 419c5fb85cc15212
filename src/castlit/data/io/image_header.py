"""What the header of an image file says: its format, its size, and its EXIF orientation."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castlit.data.io.errors import SampleError

Encoded = NDArray[np.uint8]
"""The bytes of a file."""

ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap width and height
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def is_jpeg(data: Encoded) -> bool:
    """Whether these bytes start as a JPEG does."""
    return data[:2].tobytes() == b"\xff\xd8"


def image_size(data: Encoded, name: str) -> tuple[int, int]:
    """(H, W) of an image as shown upright, from its header alone.

    Raises:
        SampleError: The header cannot be read; the message gives the name.
    """
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            width, height = image.size
            sideways = image.getexif().get(ORIENTATION, 1) in _SIDEWAYS
    except _DECODE_ERRORS as error:
        first_line = str(error).partition("\n")[0]
        raise SampleError(f"{name}: is not an image that can be decoded ({first_line})") from None
    return (width, height) if sideways else (height, width)


def orientation(data: Encoded) -> int:
    """The EXIF orientation of an image, 1 (upright) if it has none."""
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    except _DECODE_ERRORS:
        return 1


def stored_size(data: Encoded) -> tuple[int, int] | None:
    """(H, W) of a JPEG or PNG as stored, before the EXIF orientation; None for other files. Takes microseconds."""
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
        # The start-of-frame segments: C0 to CF except the tables C4, C8 and CC.
        if 0xC0 <= segment[1] <= 0xCF and segment[1] not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
        at += 2 + int.from_bytes(segment[2:4], "big")
    return None
