"""A mask's signature: a text chunk in the PNG with the settings that made it and its quality.

A restarted run reads it to recognise its masks without decoding them. Image readers ignore it.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from castlit.saliency.pipeline.quality import Quality
from castlit.utils.json_files import load_json

KEYWORD = b"castlit"
PNG = b"\x89PNG\r\n\x1a\n"

_FIRST_CHUNK = 33  # end of the PNG's magic bytes and header
_READ = 1024  # bytes that contain the signature


class Signature(NamedTuple):
    """A signature's content."""

    made: str
    """The settings, as text: equal for masks made with the same settings."""
    quality: Quality
    image_bytes: int | None = None
    """Size of the image's file. None in masks of castlit 0.2."""


def sign(png: bytes, signature: Signature) -> bytes:
    """Add a signature to the bytes of a PNG, as a chunk of type tEXt."""
    facts = {"made": signature.made, "image_bytes": signature.image_bytes, **signature.quality._asdict()}
    text = json.dumps(facts).encode("ascii")
    content = b"tEXt" + KEYWORD + b"\0" + text
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_FIRST_CHUNK] + chunk + png[_FIRST_CHUNK:]


def read_signature(path: Path) -> Signature | None:
    """Read the signature of a file; None if it has none.

    Raises:
        FileNotFoundError: There is no such file, or it is empty, as after a power cut.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_READ)
    if not head.strip(b"\0"):
        raise FileNotFoundError(f"{path}: the file is empty")
    return find_signature(head)


def find_signature(data: bytes) -> Signature | None:
    """The signature of a file with these bytes, or with these first ones; None if it has none."""
    head, start = data[:_READ], _FIRST_CHUNK + 8
    if head[:8] != PNG or head[_FIRST_CHUNK + 4 : start] != b"tEXt" or not head.startswith(KEYWORD + b"\0", start):
        return None
    stop = start + int.from_bytes(head[_FIRST_CHUNK : _FIRST_CHUNK + 4], "big")
    try:
        found = load_json(head[start + len(KEYWORD) + 1 : stop])
        quality = Quality(*(float(found[name]) for name in Quality._fields))
        size = found.get("image_bytes")
        return Signature(str(found["made"]), quality, None if size is None else int(size))
    except (ValueError, KeyError, TypeError):
        return None
