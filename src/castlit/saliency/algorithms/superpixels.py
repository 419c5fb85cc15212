"""Superpixels: their colours, positions and neighbours."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.spatial.distance import cdist
from skimage.segmentation import slic

Image = NDArray[np.uint8]
Map = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Superpixels:
    """The n superpixels of an image, numbered from 0."""

    labels: NDArray[np.int32]
    """(H, W): the superpixel of each pixel."""
    lab: Floats
    """(n, 3): mean colours in CIE Lab, L in [0, 100]."""
    rgb: Floats
    """(n, 3): mean colours, in [0, 1]."""
    centres: Floats
    """(n, 2): mean x and y of their pixels, both divided by the image's longer side."""
    sizes: Floats
    """(n,): numbers of pixels."""
    neighbours: NDArray[np.bool_]
    """(n, n): whether two of them touch, also at a corner; none touches itself."""
    sides: NDArray[np.bool_]
    """(4, n): whether they touch the image's top, bottom, left and right border."""

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def border(self) -> NDArray[np.bool_]:
        """(n,): whether they touch any side of the image."""
        return np.asarray(self.sides.any(0))

    def near_border(self, width: float) -> NDArray[np.bool_]:
        """(n,): whether they reach into a band along the image's sides; in a narrow strip, where all do, its two ends.

        Args:
            width: Of the band, as a fraction of the longer side; it has at least one pixel.
        """
        band = max(1, round(width * max(self.labels.shape)))
        inside = np.zeros(len(self), bool)
        for part in (self.labels[:band], self.labels[-band:], self.labels[:, :band], self.labels[:, -band:]):
            inside[part] = True
        if inside.all():
            rows, columns = self.labels.shape
            ends = self.sides[2:] if columns > rows else self.sides[:2]
            return np.asarray(ends.any(0))
        return inside

    @property
    def relative_centres(self) -> Floats:
        """(n, 2): mean x divided by the image's width, mean y by its height."""
        height, width = self.labels.shape
        return np.asarray(self.centres * (max(height, width) / np.array([width, height])))

    @cached_property
    def two_rings(self) -> NDArray[np.bool_]:
        """(n, n): whether they are neighbours, or have a common neighbour; none with itself."""
        near = self.neighbours.astype(np.float32)
        rings = near + near @ near > 0
        np.fill_diagonal(rings, False)
        return np.asarray(rings)

    @property
    def linked(self) -> NDArray[np.bool_]:
        """(n, n): whether they are neighbours, have a common neighbour, or both touch the border; none with itself."""
        linked = self.two_rings | np.outer(self.border, self.border)
        np.fill_diagonal(linked, False)
        return np.asarray(linked)

    @cached_property
    def colour_distances(self) -> Floats:
        """(n, n): Euclidean distances of the colours in Lab."""
        return np.asarray(cdist(self.lab, self.lab))

    @property
    def uniform(self) -> bool:
        """Whether all colours are within one unit of Lab, a difference that cannot be seen."""
        return float(self.colour_distances.max()) < 1

    def means(self, values: NDArray[np.floating]) -> Floats:
        """The mean (n, C) over each superpixel of values (H, W, C) of the pixels."""
        return _means(self.labels.ravel(), values, self.sizes)

    def to_pixels(self, values: Floats) -> Map:
        """Give each pixel its superpixel's value: (n,) to (H, W)."""
        return np.asarray(values[self.labels], np.float32)


def segment(image: Image, count: int = 200, compactness: float = 20.0, steps: int = 4) -> Superpixels:
    """Cut an image into about ``count`` superpixels by SLIC (Achanta et al., TPAMI 2012).

    Args:
        image: (H, W, 3) RGB.
        count: Approximate number of superpixels; small images get fewer.
        compactness: Weight of distance in space against distance in colour, in units of Lab.
        steps: K-means iterations; more change little.
    """
    lab = to_lab(image)
    spread = float(np.ptp(lab))
    if spread == 0:
        labels = np.zeros(image.shape[:2], np.int32)
    elif min(image.shape[:2]) < 2:
        labels = np.arange(lab[..., 0].size, dtype=np.int32).reshape(image.shape[:2])
    else:
        # scikit-image scales its input to [0, 1], so the compactness is scaled as well.
        found = slic(lab, count, compactness / spread, steps, convert2lab=False, start_label=0, channel_axis=-1)
        labels = np.asarray(found, np.int32)
    return describe(image, lab, labels)


def to_lab(image: Image) -> NDArray[np.float32]:
    """The colours (H, W, 3) of an image in CIE Lab, L in [0, 100]."""
    return np.asarray(cv2.cvtColor(np.asarray(image, np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def describe(image: Image, lab: NDArray[np.floating], labels: NDArray[np.int32]) -> Superpixels:
    """Measure regions.

    Args:
        image: (H, W, 3) RGB.
        lab: The image in CIE Lab.
        labels: (H, W), consecutive numbers from 0.
    """
    height, width = labels.shape
    flat = labels.ravel()
    sizes = np.bincount(flat).astype(np.float64)
    count = len(sizes)
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns + 0.5, rows + 0.5], -1) / max(height, width)
    sides = np.zeros((4, count), bool)
    for side, edge in zip(sides, (labels[0], labels[-1], labels[:, 0], labels[:, -1]), strict=True):
        side[edge] = True
    lab_mean, rgb_mean, centres = (_means(flat, values, sizes) for values in (lab, image / 255.0, places))
    return Superpixels(labels, lab_mean, rgb_mean, centres, sizes, touching(labels, count), sides)


def _means(labels: NDArray[np.int32], values: NDArray[np.floating], sizes: Floats) -> Floats:
    # The product with a sparse matrix that has one 1 for each pixel adds all channels at once.
    one = csc_array((np.ones(len(labels)), labels, np.arange(len(labels) + 1)), shape=(len(sizes), len(labels)))
    return np.asarray(one @ np.asarray(values, np.float64).reshape(len(labels), -1) / sizes[:, None])


def touching(labels: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """(n, n): which regions touch, at an edge or a corner."""
    touch = np.zeros((count, count), bool)
    for one, other in (
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    ):
        apart = one != other
        touch[one[apart], other[apart]] = True
    return np.asarray(touch | touch.T)


def stretch(values: NDArray[np.floating]) -> Floats:
    """Scale values to [0, 1] by their minimum and maximum; constant values become 0."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(1.0, abs(high)):
        return np.zeros(values.shape)
    return np.asarray((values - low) / (high - low), np.float64)
