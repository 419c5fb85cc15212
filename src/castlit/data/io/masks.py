"""Read mask files of any common kind: grey, 1-bit, palette, soft maps in .npy, at any size."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castlit.data.io.errors import SampleError
from castlit.data.io.image_header import Encoded
from castlit.data.io.images import decode, read_bytes, refuse_cut_jpeg
from castlit.data.io.mask_fit import Mask, fit_mask, same_ratio

THRESHOLD = 128 / 255
"""A pixel is salient above this fraction of the full level (the reference code's 128 of 255)."""

VOID = 255
"""The index of "no label" in label maps, such as the outlines in PASCAL VOC."""


def read_mask(path: str | Path, image_path: str | Path, shape: tuple[int, int], threshold: float = THRESHOLD) -> Mask:
    """Read a mask as (H, W) uint8 of {0, 1}, at the size of its upright image.

    See :func:`decode_mask` for what is salient and :func:`castlit.data.io.mask_fit.fit_mask` for how it is resized.

    Args:
        path: The mask.
        image_path: Its image; opened only if the shapes differ such that EXIF may explain it.
        shape: (H, W) of the upright image.
        threshold: Fraction of the full level above which a pixel is salient, in [0, 1].

    Raises:
        SampleError: The file is missing, empty, cut short, no mask, or does not match the image.
    """
    mask = decode_mask(read_bytes(path), str(path), threshold)
    if mask.shape != shape and not same_ratio(mask.shape, shape) and Path(image_path).is_file():
        return fit_mask(mask, str(path), shape, read_bytes(image_path))
    return fit_mask(mask, str(path), shape)


def decode_mask(data: Encoded, name: str, threshold: float = THRESHOLD) -> Mask:
    """Decode the bytes of a mask as (h, w) uint8 of {0, 1}, at its own size.

    - Grey, 8 or 16 bit (also RGB, by its luma): salient above ``threshold`` times the full level; the full level is
      always salient. A map of only 0 and 1 is used unchanged.
    - 1 bit: white is salient.
    - Palette: a grey palette is read as grey. A coloured one means a label map: every index except 0 (background) and
      255 (void) is salient.
    - ``.npy``: (h, w), or with one more dimension of length 1; booleans, floats in [0, 1], or integers as in grey
      images.

    Args:
        data: The file's bytes.
        name: Its name in messages.
        threshold: In [0, 1].

    Raises:
        SampleError: The bytes are cut short, no image, or contain values that are invalid for a mask.
    """
    if data[:6].tobytes() == b"\x93NUMPY":
        return _array_mask(data, name, threshold)
    if _has_palette(data):
        return _palette_mask(data, name, threshold)
    refuse_cut_jpeg(data, name)
    levels = decode(data, name, cv2.IMREAD_UNCHANGED)
    if levels.ndim == 3:
        levels = np.asarray(cv2.cvtColor(np.ascontiguousarray(levels[..., :3]), cv2.COLOR_BGR2GRAY))
    return _salient(levels, name, threshold)


def _salient(levels: NDArray[Any], name: str, threshold: float) -> Mask:
    """Pixels above the threshold, from levels of any type."""
    if levels.dtype == np.bool_:
        return np.asarray(levels, np.uint8)
    if np.issubdtype(levels.dtype, np.floating):
        if not (np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 1):
            raise SampleError(f"{name}: a soft mask must have values in [0, 1]")
        return np.asarray((levels > threshold) | (levels == 1), np.uint8)
    if not np.issubdtype(levels.dtype, np.integer):
        raise SampleError(f"{name}: a mask must have numbers, got {levels.dtype}")
    low, high = int(levels.min()), int(levels.max())
    full = 65535 if levels.dtype == np.uint16 else 255
    if low < 0 or high > full:
        raise SampleError(f"{name}: a mask of {levels.dtype} must have levels from 0 to {full}, got {low} to {high}")
    if high <= 1:
        return np.asarray(levels, np.uint8)
    # Integer levels: above x is above floor(x). The full level exceeds every threshold.
    cut = min(int(threshold * full + 1e-9), full - 1)
    if levels.dtype == np.uint8:
        return np.asarray(cv2.threshold(levels, cut, 1, cv2.THRESH_BINARY)[1], np.uint8)
    return np.asarray(levels > cut, np.uint8)


def _array_mask(data: Encoded, name: str, threshold: float) -> Mask:
    try:
        levels = np.load(io.BytesIO(data.data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SampleError(f"{name}: cannot be decoded ({str(error).partition(chr(10))[0]})") from None
    shape = levels.shape
    if levels.ndim == 3 and 1 in (shape[0], shape[2]):
        levels = levels.reshape(shape[1:] if shape[0] == 1 else shape[:2])
    if levels.ndim != 2 or levels.size == 0:
        raise SampleError(f"{name}: a mask must have the shape (height, width), got {shape}")
    return _salient(np.ascontiguousarray(levels), name, threshold)


def _has_palette(data: Encoded) -> bool:
    """Whether this is a PNG of colour type 3 (byte 25 of the header). OpenCV does not return the indices."""
    return data[:8].tobytes() == b"\x89PNG\r\n\x1a\n" and data.size > 25 and data[25] == 3


def _palette_mask(data: Encoded, name: str, threshold: float) -> Mask:
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            indices = np.asarray(image, np.uint8)
            palette = np.array(image.getpalette(), np.int64).reshape(-1, 3)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SampleError(f"{name}: cannot be decoded ({error})") from None
    used = np.unique(indices[indices < len(palette)])
    if (palette[used] == palette[used, :1]).all():
        levels = np.zeros(256, np.uint8)
        levels[: len(palette)] = palette[:, 0]
        return _salient(levels[indices], name, threshold)
    return np.asarray((indices != 0) & (indices != VOID), np.uint8)
