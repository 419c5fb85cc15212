"""HTML pages with encoded images."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from castlit.reporting.html import figure, page
from castlit.utils.atomic_write import write_atomic

INTERVALS = "Means over seeds, with intervals that contain the true mean with 95 % confidence (Student's t)."


def write_page(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a page of HTML parts and return its path."""
    write_atomic(path, page(title, parts))
    return path


def image(encoded: bytes, caption: str) -> str:
    """HTML of an image file's content, such as a PNG's."""
    with Image.open(io.BytesIO(encoded)) as opened:
        return figure(np.asarray(opened.convert("RGB")), caption)
