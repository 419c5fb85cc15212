"""Fit a mask to its image: turn it as EXIF says, resize it, and reject masks of another image."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from castlit.crops.resize import crop_resize_mask
from castlit.data.io.errors import MismatchError
from castlit.data.io.image_header import Encoded, orientation

Mask = NDArray[np.uint8]
T = TypeVar("T", bound=np.generic)

MAX_RATIO = 1.2
"""Largest factor between the aspect ratios of a mask and its image."""


def fit_mask(mask: Mask, name: str, shape: tuple[int, int], image: Encoded | None = None) -> Mask:
    """Resize a mask to its image, as :func:`castlit.crops.crop_resize_mask` does.

    The mask is assumed to show the image upright. If its shape matches the image only as *stored*, before the EXIF
    orientation, it was made from the stored pixels and is turned with the image. A square mask fits any image
    (DeepUSPS writes 432 × 432).

    Args:
        mask: (h, w) of {0, 1}.
        name: Its name in messages.
        shape: (H, W) of the upright image.
        image: The image's bytes, from which the EXIF orientation is read.

    Raises:
        MismatchError: The mask is not square and its aspect ratio differs from the image's by more than a fifth.
    """
    if mask.shape == shape:
        return mask
    if image is not None and _is_sideways(mask.shape, shape):
        mask = turn(mask, orientation(image))
    if not _matches(mask.shape, shape):
        raise MismatchError(
            f"{name}: the mask is {mask.shape[1]} x {mask.shape[0]}, which cannot show an image of "
            f"{shape[1]} x {shape[0]}"
        )
    if mask.shape == shape:
        return mask
    return crop_resize_mask(mask, (0, 0, mask.shape[1], mask.shape[0]), shape)


def turn(mask: NDArray[T], exif_orientation: int) -> NDArray[T]:
    """Turn an array (h, w) from how it is stored to upright, as an EXIF orientation of 1 to 8 says."""
    if exif_orientation == 1:
        return mask
    flipped = mask.T if exif_orientation >= 5 else mask
    down = exif_orientation in (3, 4, 7, 8)
    across = exif_orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(flipped[:: -1 if down else 1, :: -1 if across else 1])


def same_ratio(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether two shapes (H, W) have exactly the same aspect ratio."""
    return mask[0] * image[1] == mask[1] * image[0]


def _matches(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether the shapes match; half a pixel of rounding is allowed, which matters for tiny masks."""
    (h, w), (height, width) = mask, image
    return h == w or (
        (h - 0.5) * width <= MAX_RATIO * (w + 0.5) * height and (w - 0.5) * height <= MAX_RATIO * (h + 0.5) * width
    )


def _is_sideways(mask: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a mask's height : width is the image's width : height, and the image is not square."""
    upright = abs(mask[0] * image[1] - mask[1] * image[0])
    turned = abs(mask[0] * image[0] - mask[1] * image[1])
    return turned < upright and turned <= 0.02 * mask[1] * image[1]
