"""What the header of an image file says: its format, its size, and its EXIF orientation."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Encoded = NDArray[np.uint8]
"""The bytes of a file."""

_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # the orientations that swap width and height
JPEG_END = b"\xff\xd9"
"""A JPEG's end marker."""

_PIXELS_PER_BYTE = 16 * 8 * 64
"""More are in no JPEG."""

_PNG = b"\x89PNG\r\n\x1a\n"


def is_jpeg(data: Encoded) -> bool:
    """Whether these bytes start as a JPEG does."""
    return data[:2].tobytes() == b"\xff\xd8"


def has_end(data: Encoded) -> bool:
    """Whether a JPEG's pixels have an end marker behind them, as whole ones have; what follows it does not matter."""
    return JPEG_END in data[_jpeg_segments(data)[2] :].tobytes()


def is_png(data: Encoded) -> bool:
    """Whether these bytes start as a PNG does."""
    return data[:8].tobytes() == _PNG


def why_impossible(data: Encoded) -> str:
    """Why the bytes of a JPEG or PNG cannot hold the image that their header promises; empty if they can.

    A decoder makes room for the pixels first: one wrong bit in a header may take gigabytes.
    """
    if is_png(data):
        return _why_impossible_png(data)
    if is_jpeg(data):
        size = _jpeg_segments(data)[0]
        # A block of 8 x 8 pixels takes one bit; arithmetic coding, which is rare, may take less.
        if size is not None and size[0] * size[1] > _PIXELS_PER_BYTE * data.size:
            return "the JPEG is cut short"
    return ""


def _why_impossible_png(data: Encoded) -> str:
    if data.size < 33 or zlib.crc32(data[12:29].tobytes()) != int.from_bytes(data[29:33].tobytes(), "big"):
        return "the PNG's header is damaged"
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26].tobytes())
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour_type, 1)
    # Deflate makes 1 of 1032 bytes at best.
    if height * (width * channels * depth // 8) > 1032 * data.size:
        return "the PNG is cut short"
    at = 8
    while at + 12 <= data.size:
        length, kind = struct.unpack_from(">I4s", data.data, at)
        if kind == b"IEND":
            break
        at += 12 + length
        if at > data.size:
            return "the PNG is cut short"
    return ""


def upright_size(data: Encoded) -> tuple[int, int] | None:
    """(H, W) of a JPEG or PNG as OpenCV decodes it, upright. Takes microseconds.

    Returns:
        The size; None for other formats and unusual files, which must be decoded to know it.
    """
    size, turned = _header(data)
    return size if size is None or turned not in _SIDEWAYS else size[::-1]


def orientation(data: Encoded) -> int:
    """The EXIF orientation of an image, 1 (upright) if it has none."""
    if is_jpeg(data) or is_png(data):
        return _header(data)[1]
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damage raises many types
        return 1
    return found if found in range(1, 9) else 1


def _header(data: Encoded) -> tuple[tuple[int, int] | None, int]:
    """(H, W) as stored, and the orientation, of a JPEG or PNG."""
    if is_png(data):
        head = data[16:24].tobytes()
        size = struct.unpack(">II", head)[::-1] if len(head) == 8 else None
        return size, _png_orientation(data.tobytes())
    return _jpeg_segments(data)[:2] if is_jpeg(data) else (None, 1)


def _jpeg_segments(data: Encoded) -> tuple[tuple[int, int] | None, int, int]:
    """(H, W) as stored, the orientation, and where the pixels start, of a JPEG."""
    size, turned = None, None
    at = 2
    while at + 4 <= data.size:
        mark, kind, length = struct.unpack(">BBH", data[at : at + 4].tobytes())
        if mark != 0xFF:
            return None, turned or 1, at
        if kind == 0xFF:  # bytes that fill up before a marker
            at += 1
            continue
        if kind == 0xDA:  # the pixels start
            break
        # The start-of-frame segments: C0 to CF except the tables C4, C8 and CC.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and at + 9 <= data.size:
            size = struct.unpack(">HH", data[at + 5 : at + 9].tobytes())
        if kind == 0xE1 and turned is None:
            content = data[at + 4 : at + 2 + length].tobytes()
            if content.startswith(b"Exif\0\0"):
                turned = _tiff_orientation(content[6:])
        at += 2 + length
    return size, turned or 1, at


def _png_orientation(data: bytes) -> int:
    # Most have no such chunk; it may also follow the pixels.
    if b"eXIf" not in data:
        return 1
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return _tiff_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    return 1


def _tiff_orientation(data: bytes) -> int:
    """The orientation in EXIF data, read as OpenCV does: its decoded image is what counts."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
            if tag == _ORIENTATION:
                return int(value) if value in range(1, 9) else 1
    except struct.error:  # cut short
        pass
    return 1
