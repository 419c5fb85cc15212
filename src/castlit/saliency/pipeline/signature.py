"""What a mask says of itself: a line of text in the PNG, which readers of images pass over.

So a run that is started again knows whose masks it finds, and how they look, without decoding one of them.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from castlit.saliency.pipeline.quality import Figures

KEYWORD = b"castlit"
PNG = b"\x89PNG\r\n\x1a\n"

_FIRST_CHUNK = 33  # the PNG's own mark and its header end here
_READ = 1024  # bytes in which the signature is whole


class Signature(NamedTuple):
    """What was written."""

    made: str
    """How: equal for two masks that the same settings made."""
    figures: Figures


def sign(png: bytes, signature: Signature) -> bytes:
    """Add a signature to the bytes of a PNG, as a chunk of type tEXt."""
    text = json.dumps({"made": signature.made, **signature.figures._asdict()}).encode("ascii")
    content = b"tEXt" + KEYWORD + b"\0" + text
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_FIRST_CHUNK] + chunk + png[_FIRST_CHUNK:]


def read_signature(path: Path) -> Signature | None:
    """Read the signature of a file; None where it has none.

    Raises:
        FileNotFoundError: There is no such file; or it is empty, as a power cut leaves files.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_READ)
    if not head.strip(b"\0"):
        raise FileNotFoundError(f"{path}: the file is empty")
    start = _FIRST_CHUNK + 8
    if head[:8] != PNG or head[_FIRST_CHUNK + 4 : start] != b"tEXt" or not head.startswith(KEYWORD + b"\0", start):
        return None
    stop = start + int.from_bytes(head[_FIRST_CHUNK : _FIRST_CHUNK + 4], "big")
    try:
        found = json.loads(head[start + len(KEYWORD) + 1 : stop])
        figures = Figures(*(float(found[name]) for name in Figures._fields))
        return Signature(str(found["made"]), figures)
    except (ValueError, KeyError, TypeError):
        return None
