"""A supersampled canvas on which objects are drawn in their own units."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.scenes.outlines import Points

_SHIFT = 4  # OpenCV's fixed-point coordinates: four fractional bits


class Canvas:
    """Premultiplied RGBA patch with a linear map from object units to its pixels.

    OpenCV blends all channels in the same way, so drawing (r, g, b, 255) on zeros gives premultiplied colour and exact
    coverage in one call.

    Args:
        pose: (2, 2) matrix of determinant 1 or -1: rotation, proportions and mirroring.
        scale: Supersampled pixels per object unit.
        half: Half the side of the square patch, supersampled pixels; the object's origin is its centre.
    """

    def __init__(self, pose: NDArray[np.float64], scale: float, half: int) -> None:
        self.rgba: NDArray[np.uint8] = np.zeros((2 * half, 2 * half, 4), np.uint8)
        self._scale = scale
        self._matrix = (pose.T * (scale * (1 << _SHIFT))).astype(np.float32)
        # OpenCV puts pixel centres at whole numbers, hence the half pixel.
        self._centre = np.float32((half - 0.5) * (1 << _SHIFT))

    def fill(self, colour: NDArray[np.float32], *outlines: Points) -> None:
        """Fill outlines, which must not overlap one another, with one colour (3,), 0 to 255."""
        cv2.fillPoly(self.rgba, [self._place(outline) for outline in outlines], _opaque(colour), cv2.LINE_AA, _SHIFT)

    def line(self, colour: NDArray[np.float32], width: float, *paths: Points, closed: bool = False) -> None:
        """Draw paths with a round pen of ``width`` object units, but at least one supersampled pixel."""
        pen = max(1, round(width * self._scale))
        placed = [self._place(path) for path in paths]
        cv2.polylines(self.rgba, placed, closed, _opaque(colour), pen, cv2.LINE_AA, _SHIFT)

    @contextmanager
    def inside(self, *outlines: Points) -> Iterator[None]:
        """Clip what is drawn in this context to the outlines."""
        stencil = np.zeros(self.rgba.shape[:2], np.uint8)
        for outline in outlines:
            cv2.fillPoly(stencil, [self._place(outline)], (255.0,), cv2.LINE_8, _SHIFT)
        before, self.rgba = self.rgba, self.rgba.copy()
        try:
            yield
        finally:
            cv2.copyTo(self.rgba, stencil, before)
            self.rgba = before

    def _place(self, outline: Points) -> NDArray[np.int32]:
        placed: NDArray[np.int32] = np.rint(outline @ self._matrix + self._centre).astype(np.int32)
        return placed


def _opaque(colour: NDArray[np.float32]) -> list[float]:
    return [*colour.tolist(), 255.0]
