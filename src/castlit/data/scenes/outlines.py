"""Outlines as polygons in object units: an object fills about [-1, 1] × [-1, 1], with y pointing down."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # (n, 2) x, y

_TURN = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1).astype(np.float32)


def points(*xy: tuple[float, float]) -> Points:
    """Corners as an (n, 2) array."""
    return np.array(xy, np.float32)


def smooth(corners: Points | Sequence[tuple[float, float]], steps: int = 6, closed: bool = True) -> Points:
    """Smooth curve through all corners (uniform Catmull-Rom spline), with ``steps`` points per corner."""
    knots = np.asarray(corners, np.float32)
    ends = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([ends[0], knots, ends[1]])
    t = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[None, :, None]
    a, b, c, d = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(curve.reshape(-1, 2), np.float32)


def mirrored(right: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Add the mirror image to a right half, given from top to bottom; corners on the axis are not repeated."""
    return [*right, *((-x, y) for x, y in reversed(right) if x != 0.0)]


def flipped(outline: Points) -> Points:
    """The outline mirrored horizontally."""
    return outline * np.array([-1.0, 1.0], np.float32)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, angle: float = 0.0) -> Points:
    """Ellipse about (x, y) with half axes rx and ry (a circle without ry), rotated by ``angle`` radians."""
    outline = _CIRCLE * np.array([rx, rx if ry is None else ry], np.float32)
    if angle:
        cos, sin = np.cos(angle), np.sin(angle)
        outline = outline @ np.array([[cos, sin], [-sin, cos]], np.float32)
    return outline + np.array([x, y], np.float32)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Axis-aligned rectangle."""
    return points((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def grown(outline: Points, factor: float, x: float, y: float) -> Points:
    """The outline scaled by ``factor`` about (x, y)."""
    centre = np.array([x, y], np.float32)
    return centre + factor * (outline - centre)


def moved(outline: Points, x: float, y: float) -> Points:
    """The outline moved by (x, y)."""
    return outline + np.array([x, y], np.float32)
