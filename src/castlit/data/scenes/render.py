"""One scene: an object with its soft shadow on a background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.scenes.backgrounds import BACKGROUNDS, render_background
from castlit.data.scenes.objects import OBJECTS, render_object
from castlit.utils.validation import require_int

Bytes = NDArray[np.uint8]


def render_scene(
    object_class: int, background_class: int | None, rng: np.random.Generator, size: int = 72
) -> tuple[Bytes, Bytes]:
    """Render one scene. The object is drawn first, so it does not depend on the background.

    Args:
        object_class: Index into OBJECTS.
        background_class: Index into BACKGROUNDS, or None for black.
        rng: Random generator.
        size: Side of the square picture, pixels; at least 16.

    Returns:
        Image (size, size, 3) uint8 RGB, and mask (size, size) uint8 in {0, 1}: 1 where the object, without its
        shadow, covers at least half of a pixel.

    Raises:
        ValueError: A class or the size is out of range.
    """
    object_class = require_int("object_class", _plain(object_class), 0, len(OBJECTS) - 1)
    if background_class is not None:
        background_class = require_int("background_class", _plain(background_class), 0, len(BACKGROUNDS) - 1)
    require_int("size", size, 16)
    return compose(object_class, background_class, rng, rng, size)


def _plain(label: object) -> object:
    """Convert NumPy integers to Python's, so that labels of :class:`Scenes` are accepted."""
    return int(label) if isinstance(label, np.integer) else label


def compose(
    object_class: int,
    background_class: int | None,
    object_rng: np.random.Generator,
    background_rng: np.random.Generator,
    size: int,
) -> tuple[Bytes, Bytes]:
    """Render a scene with separate random generators for object and background; arguments are not checked."""
    colour, patch, (top, left) = render_object(object_class, object_rng, size)
    window = np.s_[top : top + patch.shape[0], left : left + patch.shape[1]]
    coverage = np.zeros((size, size), np.float32)
    coverage[window] = patch
    if background_class is None:
        image = np.zeros((size, size, 3), np.float32)
    else:
        image = render_background(background_class, background_rng, size)
        image *= ((1.0 - 0.5 * _shadow(coverage)) * (1.0 - coverage))[..., None]
    image[window] += colour
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), (coverage >= 0.5).astype(np.uint8)


def _shadow(coverage: NDArray[np.float32]) -> NDArray[np.float32]:
    """Soft shadow of the object: its coverage, blurred and shifted away from the light."""
    size = coverage.shape[0]
    blurred = cv2.GaussianBlur(coverage, (0, 0), 0.028 * size, borderType=cv2.BORDER_CONSTANT)
    move = np.array([[1, 0, 0.018 * size], [0, 1, 0.038 * size]], np.float32)
    return np.asarray(cv2.warpAffine(blurred, move, (size, size)), np.float32)
