"""Read mask files as people have them: grey, 1-bit, palette, soft maps in .npy, at any size."""

import io
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from castlit.data.io.errors import MismatchError, SampleError
from castlit.data.io.images import ORIENTATION, Encoded, decode, orientation, read_bytes, refuse_cut_jpeg

THRESHOLD = 128 / 255
"""A pixel is salient above this share of the full level (the reference code's 128 of 255)."""

VOID = 255
"""The index that label maps give to "no label", such as the outlines in PASCAL VOC."""

MISMATCH = 1.2
"""The factor between the aspect ratios of mask and image from which on they do not belong together."""

Mask = NDArray[np.uint8]


def read_mask(path: str | Path, image_path: str | Path, shape: tuple[int, int], threshold: float = THRESHOLD) -> Mask:
    """Read a mask as (H, W) uint8 of {0, 1}, at the size of its upright image.

    See :func:`decode_mask` for what is salient and :func:`fit_mask` for how it is brought to the image's size.

    Args:
        path: The mask.
        image_path: Its image; opened only if the shapes suggest that EXIF matters.
        shape: (H, W) of the upright image.
        threshold: Share of the full level above which a pixel is salient, in [0, 1].

    Raises:
        SampleError: The file is missing, empty, cut short, no mask, or cannot belong to the image.
    """
    mask = decode_mask(read_bytes(path), str(path), threshold)
    if mask.shape != shape and not _same_ratio(mask.shape, shape) and Path(image_path).is_file():
        return fit_mask(mask, str(path), shape, read_bytes(image_path))
    return fit_mask(mask, str(path), shape)


def decode_mask(data: Encoded, name: str, threshold: float = THRESHOLD) -> Mask:
    """Decode the bytes of a mask as (h, w) uint8 of {0, 1}, at its own size.

    - Grey, 8 or 16 bit (also RGB, by its luma): salient above ``threshold`` of the full level, which is itself always
      salient. A map of only 0 and 1 is taken as it is.
    - 1 bit: white is salient.
    - Palette: a grey palette counts as grey. A coloured one makes a label map: every index but 0 (background) and 255
      (void) is salient.
    - ``.npy``: (h, w), or with one more dimension of length 1; boolean, floats in [0, 1], or whole numbers as in grey
      images.

    Args:
        data: The file's bytes.
        name: What messages call it.
        threshold: In [0, 1].

    Raises:
        SampleError: The bytes are cut short, no image, or hold values that no mask has.
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


def fit_mask(mask: Mask, name: str, shape: tuple[int, int], image: Encoded | None = None) -> Mask:
    """Bring a mask to the size of its image, to the nearest pixel.

    The mask is taken to show the image upright. Only where its shape is that of the image as *stored*, and not
    upright, was it made from the stored pixels, and is turned with the image. A square mask fits any image (DeepUSPS
    writes 432 × 432).

    Args:
        mask: (h, w) of {0, 1}.
        name: What messages call it.
        shape: (H, W) of the upright image.
        image: The image's bytes, which say whether it is turned.

    Raises:
        MismatchError: The mask is not square and its aspect ratio differs from the image's by more than a fifth.
    """
    if mask.shape == shape:
        return mask
    if image is not None and _lies_on_its_side(mask.shape, shape):
        mask = _turn(mask, orientation(image))
    if not _belongs(mask.shape, shape):
        raise MismatchError(
            f"{name}: the mask is {mask.shape[1]} x {mask.shape[0]}, which cannot show an image of "
            f"{shape[1]} x {shape[0]}"
        )
    if mask.shape == shape:
        return mask
    height, width = shape
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def pack_mask(mask: Mask) -> bytes:
    """Compress a mask of {0, 1} to bits: some 1 kB for a photograph's, and read seven times faster than its PNG."""
    return zlib.compress(np.packbits(mask).tobytes(), 6)


def unpack_mask(packed: bytes, shape: tuple[int, int]) -> Mask:
    """The mask (H, W) of {0, 1} that :func:`pack_mask` compressed.

    Raises:
        SampleError: The bytes are damaged, or of another shape.
    """
    count = shape[0] * shape[1]
    try:
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    except zlib.error as error:
        raise SampleError(f"a mask in the index is damaged ({error}): delete the index") from None
    if bits.size != (count + 7) // 8:
        raise SampleError("a mask in the index is damaged (another shape): delete the index")
    return np.unpackbits(bits, count=count).reshape(shape)


def _salient(levels: NDArray[Any], name: str, threshold: float) -> Mask:
    """Pixels above the threshold, from levels of any type."""
    if levels.dtype == np.bool_:
        return np.asarray(levels, np.uint8)
    if np.issubdtype(levels.dtype, np.floating):
        if not (np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 1):
            raise SampleError(f"{name}: a soft mask holds numbers in [0, 1], this one holds others")
        return np.asarray((levels > threshold) | (levels == 1), np.uint8)
    if not np.issubdtype(levels.dtype, np.integer):
        raise SampleError(f"{name}: a mask holds numbers, this one {levels.dtype}")
    low, high = int(levels.min()), int(levels.max())
    full = 65535 if levels.dtype == np.uint16 else 255
    if low < 0 or high > full:
        raise SampleError(f"{name}: a mask of {levels.dtype} holds levels from 0 to {full}, this one {low} to {high}")
    if high <= 1:
        return np.asarray(levels, np.uint8)
    # Whole levels: above the share is above its whole part; and the full level is above every threshold.
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
        raise SampleError(f"{name}: a mask has the shape (height, width), this one {shape}")
    return _salient(np.ascontiguousarray(levels), name, threshold)


def _has_palette(data: Encoded) -> bool:
    """Whether this is a PNG of colour type 3 (byte 25 of the header). OpenCV would hide the indices."""
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


def _same_ratio(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    return mask[0] * image[1] == mask[1] * image[0]


def _belongs(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether the shapes go together; half a pixel of rounding is allowed for, which matters to tiny ones."""
    (h, w), (height, width) = mask, image
    return h == w or (
        (h - 0.5) * width <= MISMATCH * (w + 0.5) * height and (w - 0.5) * height <= MISMATCH * (h + 0.5) * width
    )


def _lies_on_its_side(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a mask's height : width is the image's width : height, and the image is not square."""
    upright = abs(mask[0] * image[1] - mask[1] * image[0])
    turned = abs(mask[0] * image[0] - mask[1] * image[1])
    return turned < upright and turned <= 0.02 * mask[1] * image[1]


def _turn(mask: Mask, exif_orientation: int) -> Mask:
    if exif_orientation == 1:
        return mask
    stored = Image.fromarray(mask)
    stored.getexif()[ORIENTATION] = exif_orientation
    return np.asarray(ImageOps.exif_transpose(stored), np.uint8)
