"""Variants of an image, by its mask: without the object, without the background, with another background."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

VARIANTS = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg", "only_bg_b", "only_bg_t", "no_fg")
"""The eight variants of ImageNet-9, by the names of their folders."""

MIXED = ("mixed_same", "mixed_rand", "mixed_next")


class Cut(NamedTuple):
    """An image and its object's mask, of the same size."""

    image: Pixels
    """(H, W, 3) RGB."""
    mask: Pixels
    """(H, W), nonzero on the object; not empty."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The object's bounding box (x1, y1, x2, y2), half-open."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_area(cut: Cut) -> float:
    """Return the bounding box's fraction of the image, in (0, 1]."""
    x1, y1, x2, y2 = cut.box
    return (x2 - x1) * (y2 - y1) / cut.mask.size


def variants_of(cut: Cut) -> dict[str, Pixels]:
    """Make the variants that need no other image: ``original``, ``only_fg``, ``only_bg_b``, ``only_bg_t``, ``no_fg``.

    - ``only_fg``: the object on black.
    - ``only_bg_b``: the object's bounding box black.
    - ``only_bg_t``: the bounding box filled with background, see :func:`tiled`.
    - ``no_fg``: the object's silhouette black.
    """
    x1, y1, x2, y2 = cut.box
    boxed = cut.image.copy()
    boxed[y1:y2, x1:x2] = 0
    inside = cut.mask[..., None] != 0
    return {
        "original": cut.image,
        "only_fg": np.where(inside, cut.image, np.uint8(0)),
        "only_bg_b": boxed,
        "only_bg_t": tiled(cut),
        "no_fg": np.where(inside, np.uint8(0), cut.image),
    }


def tiled(cut: Cut) -> Pixels:
    """Fill the object's box with the largest strip of the image beside it, repeated.

    Strips span the image: above, below, left and right of the box; ties go to the first of these. The strip is repeated
    from its own position, so that it continues without a shift across the adjacent side of the box.
    """
    height, width = cut.mask.shape
    x1, y1, x2, y2 = cut.box
    strips = [(0, 0, width, y1), (0, y2, width, height), (0, 0, x1, height), (x2, 0, width, height)]
    left, top, right, bottom = max(strips, key=lambda s: (s[2] - s[0]) * (s[3] - s[1]))
    filled: Pixels = cut.image.copy()
    if right > left and bottom > top:
        rows = (np.arange(y1, y2) - top) % (bottom - top) + top
        columns = (np.arange(x1, x2) - left) % (right - left) + left
        filled[y1:y2, x1:x2] = cut.image[np.ix_(rows, columns)]
    else:
        filled[y1:y2, x1:x2] = 0  # the box fills the image: there is no background
    return filled


def mixed(cut: Cut, background: Pixels) -> Pixels:
    """Put the object of one image on the background (H, W, 3) of another."""
    chosen: Pixels = np.where(cut.mask[..., None] != 0, cut.image, background)
    return chosen
