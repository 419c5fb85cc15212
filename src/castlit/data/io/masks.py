"""Read mask files of any common kind: grey, 1-bit, palette, alpha, label maps, soft maps in .npy, at any size."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.image_header import Encoded
from castlit.data.io.images import read_bytes
from castlit.data.io.mask_fit import Mask, fit_mask, same_ratio, turn
from castlit.data.io.mask_labels import by_colour, by_number, has_label_palette, refuse_labels
from castlit.data.io.mask_levels import Levels, read_levels
from castlit.data.io.mask_pixels import MaskPixels, read_pixels
from castlit.utils.validation import require_choice

THRESHOLD = 128 / 255
"""A pixel is salient above this fraction of the full level (the reference code's 128 of 255)."""

MaskKind = Literal["auto", "levels", "labels", "colours"]
"""What the pixels of a mask mean, see :func:`decode_mask`."""


def require_mask_kind(name: str, value: object) -> MaskKind:
    """Return ``value`` if it is a kind of masks.

    Raises:
        InputError: It is none.
    """
    require_choice(name, value, get_args(MaskKind))
    return value  # type: ignore[return-value]


def read_mask(
    path: str | Path,
    image_path: str | Path,
    shape: tuple[int, int],
    threshold: float = THRESHOLD,
    kind: MaskKind = "auto",
) -> Mask:
    """Read a mask as (H, W) uint8 of {0, 1}, at the size of its upright image.

    See :func:`decode_mask` for what is salient and :func:`castlit.data.io.mask_fit.fit_mask` for how it is resized.

    Args:
        path: The mask.
        image_path: Its image; opened only if the shapes differ such that EXIF may explain it.
        shape: (H, W) of the upright image.
        threshold: Fraction of the full level above which a pixel is salient, in [0, 1].
        kind: What its pixels mean.

    Raises:
        SampleError: The file is missing, empty, cut short, no mask, or does not match the image.
    """
    mask = decode_mask(read_bytes(path), str(path), threshold, kind)
    if mask.shape != shape and not same_ratio(mask.shape, shape) and Path(image_path).is_file():
        return fit_mask(mask, str(path), shape, read_bytes(image_path))
    return fit_mask(mask, str(path), shape)


def decode_mask(data: Encoded, name: str, threshold: float = THRESHOLD, kind: MaskKind = "auto") -> Mask:
    """Decode the bytes of a mask as (h, w) uint8 of {0, 1}, at its own size; its own EXIF orientation is applied.

    ``"levels"``: brighter is more salient.

    - An alpha channel in which something is transparent is the mask, as in cut-outs.
    - Grey, 8 or 16 bit (also colours, by their luma): salient above ``threshold`` times the full level; the full level
      is always salient. A map of only 0 and 1 is used unchanged.
    - 1 bit: white is salient.
    - ``.npy``: (h, w), or with one more dimension of length 1; booleans, floats in [0, 1], or integers as in grey
      images.

    ``"labels"``: pixels are numbers of classes or objects. Salient is every number but 0 (background) and 255 (no
    label; 65535 in maps with larger numbers). ``"colours"``: every colour is salient but black and VOC's no label,
    (224, 224, 192). In both, what is fully transparent is not.

    ``"auto"``: a palette of colours whose number 0, alone, is black means labels; all else means levels. What looks
    like a label map nevertheless is refused: colours, and levels that fill regions as numbers do (0, 13 and 255), also
    in a JPEG.

    Args:
        data: The file's bytes.
        name: Its name in messages.
        threshold: In [0, 1].
        kind: What its pixels mean.

    Raises:
        LabelMapError: It looks like a label map, and ``kind`` is ``"auto"``.
        SampleError: The bytes are cut short, no image, or contain values that are invalid for a mask.
    """
    pixels = read_pixels(data, name)
    found = _read(pixels, name, threshold, kind)
    return turn(found.above(threshold) if isinstance(found, Levels) else found, pixels.orientation)


def decode_map(data: Encoded, name: str, kind: MaskKind = "auto") -> NDArray[np.float32]:
    """Decode the bytes of a saliency map as (h, w) float32 in [0, 1]: as :func:`decode_mask`, without a threshold.

    Raises:
        LabelMapError: It looks like a label map, and ``kind`` is ``"auto"``.
        SampleError: The bytes are cut short, no image, or contain values that are invalid for a map.
    """
    pixels = read_pixels(data, name)
    found = _read(pixels, name, THRESHOLD, kind)
    return turn(found.soft if isinstance(found, Levels) else found.astype(np.float32), pixels.orientation)


def _read(pixels: MaskPixels, name: str, threshold: float, kind: MaskKind) -> Levels | Mask:
    if kind == "colours":
        return by_colour(pixels, name)
    if kind == "labels" or (kind == "auto" and has_label_palette(pixels, name)):
        return by_number(pixels, name)
    levels = read_levels(pixels, name)
    if kind == "auto" and pixels.alpha is None:
        refuse_labels(levels, name, threshold, pixels.lossy)
    return levels
