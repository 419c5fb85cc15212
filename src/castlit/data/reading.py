"""Read image and mask files as people have them: grey, CMYK, alpha, 16-bit, palette, rotated by EXIF."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from castlit.data.errors import SampleError

THRESHOLD = 128
"""A saliency map's pixel is salient above this 8-bit level (FACTS, section 1; the reference code's threshold)."""

VOID = 255
"""The index that label maps give to "no label", such as the outlines in PASCAL VOC."""

_TAIL = 65536


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, upright: the EXIF orientation is applied.

    Grey is repeated over the channels, CMYK converted, 16 bit reduced to 8, alpha dropped.

    Raises:
        SampleError: The file is missing, empty, cut short or no image; the message names it.
    """
    data = _read_bytes(path)
    _refuse_cut_jpeg(path, data)
    return np.asarray(cv2.cvtColor(_decode(path, data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def read_mask(path: str | Path, image_path: str | Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a mask as (H, W) uint8 of {0, 1}, at the size of its upright image.

    - Grey (also RGB, by its luma): salient above 128 of 255. A map of only 0 and 1 is taken as it is.
    - 1 bit: white is salient.
    - Palette: a grey palette counts as grey. A coloured one makes a label map: every index but 0 (background) and 255
      (void) is salient.
    - Another size than the image's is scaled to it, to the nearest pixel (DeepUSPS writes 432 × 432).
    - The mask is taken to show the image upright. Only where its shape is that of the image as *stored*, and not
      upright, was it made from the stored pixels, and is turned with the image.

    Args:
        path: The mask.
        image_path: Its image; opened only if the shapes suggest that EXIF matters.
        shape: (H, W) of the upright image.

    Raises:
        SampleError: The file is missing, empty, cut short or no image; the message names it.
    """
    data = _read_bytes(path)
    _refuse_cut_jpeg(path, data)
    salient = _palette_mask(path) if _has_palette(data) else _grey_mask(path, data)
    if _lies_on_its_side(salient.shape, shape):
        salient = _turn_as(image_path, salient)
    if salient.shape != shape:
        height, width = shape
        salient = np.asarray(cv2.resize(salient, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return salient


def _read_bytes(path: str | Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if data.size == 0:
        raise SampleError(f"{path}: the file is empty")
    return data


def _refuse_cut_jpeg(path: str | Path, data: NDArray[np.uint8]) -> None:
    """OpenCV fills the missing part of a JPEG with grey and says nothing; the end marker tells."""
    if data[:2].tobytes() == b"\xff\xd8" and b"\xff\xd9" not in data[2:][-_TAIL:].tobytes():
        raise SampleError(f"{path}: the JPEG is cut short")


def _decode(path: str | Path, data: NDArray[np.uint8], flags: int) -> NDArray[Any]:
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise SampleError(f"{path}: cannot be decoded ({error.err})") from None
    if image is None:
        raise SampleError(f"{path}: is not an image that can be decoded")
    return np.asarray(image)


def _grey_mask(path: str | Path, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if levels.ndim == 3:
        levels = np.asarray(cv2.cvtColor(np.ascontiguousarray(levels[..., :3]), cv2.COLOR_BGR2GRAY))
    if levels.max() <= 1 and levels.dtype == np.uint8:
        return np.asarray(levels, np.uint8)
    full = np.iinfo(levels.dtype).max if np.issubdtype(levels.dtype, np.integer) else 1.0
    return np.asarray(levels > THRESHOLD / 255 * full, np.uint8)


def _has_palette(data: NDArray[np.uint8]) -> bool:
    """Whether this is a PNG of colour type 3 (byte 25 of the header). OpenCV would hide the indices."""
    return data[:8].tobytes() == b"\x89PNG\r\n\x1a\n" and data.size > 25 and data[25] == 3


def _palette_mask(path: str | Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            indices = np.asarray(image, np.uint8)
            palette = np.array(image.getpalette(), np.int64).reshape(-1, 3)
    except (OSError, SyntaxError, ValueError) as error:
        raise SampleError(f"{path}: cannot be decoded ({error})") from None
    used = np.unique(indices[indices < len(palette)])
    if (palette[used] == palette[used, :1]).all():
        levels = np.zeros(256, np.int64)
        levels[: len(palette)] = palette[:, 0]
        return np.asarray((levels > THRESHOLD)[indices], np.uint8)
    return np.asarray((indices != 0) & (indices != VOID), np.uint8)


def _lies_on_its_side(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a mask's height : width is the image's width : height, and the image is not square."""
    upright = abs(mask[0] * image[1] - mask[1] * image[0])
    turned = abs(mask[0] * image[0] - mask[1] * image[1])
    return turned < upright and turned <= 0.02 * mask[1] * image[1]


def _turn_as(image_path: str | Path, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    try:
        with Image.open(image_path) as image:
            orientation = image.getexif().get(0x0112, 1)
    except (OSError, UnidentifiedImageError):
        return mask
    if orientation == 1:
        return mask
    stored = Image.fromarray(mask)
    stored.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(stored), np.uint8)
