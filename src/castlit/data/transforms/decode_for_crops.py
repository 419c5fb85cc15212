"""Decode an image at no higher resolution than its crops need."""

import numpy as np
from numpy.typing import NDArray

from castlit.crops.coverage import Box
from castlit.data.io.images import REDUCTIONS, EncodedImage


def decode_for_crops(
    image: NDArray[np.uint8] | EncodedImage, boxes: list[Box], size: int
) -> tuple[NDArray[np.uint8], list[Box]]:
    """Decode an image and convert the boxes to the decoded resolution.

    A JPEG is decoded at a half, a quarter or an eighth of its size if every box keeps at least ``size`` pixels a side.

    Args:
        image: (H, W, 3), or an encoded image that decodes to it.
        boxes: In pixels of the full-size image.
        size: Side of the views in pixels.

    Returns:
        The image, and the boxes in its pixels.

    Raises:
        SampleError: The image cannot be decoded.
    """
    if not isinstance(image, EncodedImage):
        return image, boxes
    smallest = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes)
    reduction = max(r for r in REDUCTIONS if r == 1 or smallest >= r * size) if image.can_reduce else 1
    pixels = image.decode(reduction)
    if reduction == 1:
        return pixels, boxes
    height, width = pixels.shape[:2]
    return pixels, [_reduced(box, reduction, width, height) for box in boxes]


def _reduced(box: Box, reduction: int, width: int, height: int) -> Box:
    x1, y1, x2, y2 = (round(edge / reduction) for edge in box)
    # A box of a pixel may round to nothing.
    return x1, y1, max(min(x2, width), x1 + 1), max(min(y2, height), y1 + 1)
