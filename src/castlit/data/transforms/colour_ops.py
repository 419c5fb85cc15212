"""Colour jitter, grey and blur of one uint8 image, in OpenCV.

Brightness, contrast and saturation all have the form ``scale * x + grey * luma(x) + offset``. Consecutive ones are
combined into one pass over the image, unless values may leave [0, 255] in between.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey level (ITU-R 601)."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
BLUR_PASSES = 3

_Real = TypeVar("_Real", float, Tensor)


def jitter(image: Image, factors: Sequence[float], order: Sequence[int]) -> Image:
    """Change brightness, contrast, saturation and hue by torchvision's definitions.

    Brightness scales every value; contrast scales its distance from the image's mean grey level, saturation that from
    the pixel's own grey level. Values are clipped to [0, 255] after each.

    Args:
        image: (H, W, 3) RGB; or (H, W) grey, on which saturation and hue do nothing.
        factors: Of brightness, contrast and saturation, at least 0, where 1 is the identity; and the hue shift, see
            :func:`shift_hue`.
        order: The numbers of the four operations (``BRIGHTNESS`` and so on), in the order in which they are applied.
    """
    scale, grey, offset = 1.0, 0.0, 0.0
    for operation in order:
        factor = factors[operation]
        if factor == (operation != HUE) or (operation >= SATURATION and image.ndim == 2):
            continue
        if operation == HUE:
            image, scale, grey, offset = shift_hue(_affine(image, scale, grey, offset), factor), 1.0, 0.0, 0.0
        elif operation == SATURATION:
            scale, grey = factor * scale, grey + (1 - factor) * scale
        else:
            pivot = round((scale + grey) * _mean_grey(image) + offset) if operation == CONTRAST else 0.0
            scale, grey, offset = factor * scale, factor * grey, factor * offset + (1 - factor) * pivot
        if operation != HUE and factor > 1:  # values may be clipped, which the next operation depends on
            image, scale, grey, offset = _affine(image, scale, grey, offset), 1.0, 0.0, 0.0
    return _affine(image, scale, grey, offset)


def shift_hue(image: Image, shift: float) -> Image:
    """Shift the hue of (H, W, 3) RGB by a fraction of a full turn, in [-0.5, 0.5]."""
    # float32 is as fast as uint8, which has only 256 steps of hue and saturation, and errors of up to ten levels.
    pixels = image.astype(np.float32)
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    # OpenCV wraps hues of 360 degrees and more, but not those below 0.
    hsv[..., 0] += np.float32(shift % 1 * 360)
    return np.asarray(cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=pixels)), np.uint8)


def to_grey(image: Image) -> Image:
    """The luma (H, W) of (H, W, 3) RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def to_rgb(grey: Image) -> Image:
    """Repeat (H, W) over three channels: (H, W, 3)."""
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def blur(image: Image, sigma: float) -> Image:
    """Blur (H, W, 3) or (H, W) like Pillow's ``GaussianBlur(sigma)``, but at the edges, see :func:`blur_kernel`."""
    kernel = blur_kernel(sigma)
    return np.asarray(cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE), np.uint8)


def blur_kernel(sigma: float) -> NDArray[np.float64]:
    """The kernel of Pillow's ``GaussianBlur``: a box of fractional length, convolved with itself three times.

    Its variance is ``sigma²`` at every sigma. Below 0.8 it differs from a Gaussian sampled at integer pixels (at 0.3,
    the latter blurs nearly nothing). MoCo v2 was trained with Pillow's.

    Args:
        sigma: Standard deviation in pixels, above 0.

    Returns:
        Symmetric, of odd length, with the sum 1.
    """
    radius = box_radius(sigma)
    floor = int(radius)
    edge = radius - floor
    box = np.array([edge, *[1.0] * (2 * floor + 1), edge]) / (2 * radius + 1)
    kernel: NDArray[np.float64] = np.convolve(np.convolve(box, box), box)
    # Weights this small do not change an 8-bit level.
    least = 1 / 2048
    while kernel[0] < least:
        kernel = kernel[1:-1]
    # Exact symmetry halves OpenCV's multiplications.
    return np.asarray((kernel + kernel[::-1]) / (2 * kernel.sum()))


def box_radius(sigma: _Real) -> _Real:
    """Radius of the box that, applied :data:`BLUR_PASSES` times, has the standard deviation ``sigma`` in pixels.

    A box of radius r has the weight r + 1 - d, clipped to [0, 1], at distance d.

    Source: Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering", SSVM 2011, as
    in Pillow's ``BoxBlur.c``.
    """
    variance = sigma * sigma / BLUR_PASSES
    squared = 12 * variance + 1
    root = squared.sqrt() if isinstance(squared, Tensor) else math.sqrt(squared)
    floor = (root - 1) // 2
    edge = (2 * floor + 1) * (floor * (floor + 1) - 3 * variance) / (6 * (variance - (floor + 1) * (floor + 1)))
    return floor + edge


def _mean_grey(image: Image) -> float:
    """Mean luma, from sums: twenty times as fast as OpenCV's mean of three channels."""
    red, green, blue, _ = cv2.sumElems(image)
    level = red if image.ndim == 2 else LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return float(level / (image.shape[0] * image.shape[1]))


def _affine(image: Image, scale: float, grey: float, offset: float) -> Image:
    """``scale * image + grey * luma + offset``, rounded and clipped; the image itself if that is the identity."""
    if scale == 1 and grey == 0 and offset == 0:
        return image
    if image.ndim == 2 or grey == 0:  # faster than cv2.transform with a diagonal matrix
        return np.asarray(cv2.addWeighted(image, scale + grey, image, 0.0, offset), np.uint8)
    red, green, blue = (grey * weight for weight in LUMA)
    matrix = np.array(
        (
            (scale + red, green, blue, offset),
            (red, scale + green, blue, offset),
            (red, green, scale + blue, offset),
        )
    )
    return np.asarray(cv2.transform(image, matrix), np.uint8)
