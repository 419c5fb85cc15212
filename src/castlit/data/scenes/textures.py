"""Building blocks of the backgrounds: coordinates, smooth noise, soft edges, colour ramps, and strokes."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.scenes.colour import Floats

Bytes = NDArray[np.uint8]

_SHIFT = 4  # fractional bits of the fixed-point coordinates that OpenCV draws with

_DISC = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], 1)


@lru_cache(maxsize=8)
def _grid(side: int) -> tuple[Floats, Floats]:
    line = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    x, y = np.tile(line, (side, 1)), np.repeat(line[:, None], side, axis=1)
    y.flags.writeable = x.flags.writeable = False  # shared between scenes
    return x, y


def turned(side: int, degrees: float) -> tuple[Floats, Floats]:
    """Coordinates (side, side), rotated by ``degrees``; the unit is the picture's side, the origin its centre."""
    x, y = _grid(side)
    cos, sin = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
    return x * cos + y * sin, y * cos - x * sin


def noise(rng: np.random.Generator, side: int, across: int, down: int | None = None) -> Floats:
    """Smooth noise (side, side) in about [-1, 1] with ``across`` × ``down`` bumps."""
    coarse = rng.uniform(-1.0, 1.0, (across if down is None else down, across)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def cells(t: Floats) -> tuple[Floats, Floats]:
    """Split a coordinate into the number of its cell and the position in that cell, -0.5 to 0.5."""
    number = np.floor(t)
    return number, t - number - np.float32(0.5)


def edge(distance: Floats, width: float) -> Floats:
    """An anti-aliased edge: 0 below -width, 1 above width, linear between."""
    step: Floats = np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0.0, 1.0)
    return step


def ramp(t: Floats, *colours: Floats) -> Floats:
    """Colour a map (h, w) with values 0 to 1 along evenly spaced colours (3,); float32 (h, w, 3)."""
    table = cv2.resize(np.stack(colours)[None], (256, 1), interpolation=cv2.INTER_LINEAR)[0]
    coloured: Floats = table.take(np.clip(t * np.float32(255), 0, 255).astype(np.uint8), axis=0)
    return coloured


def blend(image: Floats, colour: Floats, amount: Floats) -> None:
    """Move ``image`` (h, w, 3) towards ``colour`` (3,) by ``amount`` (h, w), 0 to 1, in place."""
    image += (colour - image) * amount[..., None]


def drawable(image: Floats) -> Bytes:
    """Convert an image to uint8: OpenCV draws with anti-aliasing on uint8 only."""
    return np.clip(image, 0, 255).astype(np.uint8)


def fill(image: Bytes, colour: Floats, polygons: NDArray[np.float64]) -> None:
    """Fill polygons (n, k, 2), which must not overlap, in place; x and y in units of the side, origin at the corner."""
    cv2.fillPoly(image, _fixed(polygons, len(image)), colour.tolist(), cv2.LINE_AA, _SHIFT)


def stroke(image: Bytes, colour: Floats, paths: NDArray[np.float64], width: float) -> None:
    """Draw open paths (n, k, 2) in place; coordinates and ``width`` in units of the side."""
    pen = max(1, round(width * len(image)))
    cv2.polylines(image, _fixed(paths, len(image)), False, colour.tolist(), pen, cv2.LINE_AA, _SHIFT)


def dots(image: Bytes, colour: Floats, centres: NDArray[np.float64], radius: float) -> None:
    """Draw discs, which must not overlap, about centres (n, 2) in place; all in units of the side."""
    fill(image, colour, centres[:, None] + radius * _DISC)


def _fixed(coordinates: NDArray[np.float64], side: int) -> list[NDArray[np.int32]]:
    # OpenCV puts pixel centres at whole numbers, hence the half pixel.
    return list(np.rint((coordinates * side - 0.5) * (1 << _SHIFT)).astype(np.int32))
