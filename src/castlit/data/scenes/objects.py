"""The ten object classes, each with a name, a palette and a drawing; and rendering of one object without background."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.scenes import creatures, things
from castlit.data.scenes.canvas import Canvas
from castlit.data.scenes.colour import Floats, jitter, palette


class _Kind(NamedTuple):
    draw: Callable[[Canvas, Floats, np.random.Generator], None]
    colours: Floats
    max_turn: float  # largest rotation either way, degrees


_KINDS: dict[str, _Kind] = {
    "fish": _Kind(creatures.fish, palette("f98a2b", "e2611c", "fff8ec", "3a2430"), 25),
    "mushroom": _Kind(things.mushroom, palette("e2382f", "b32431", "fff6ea", "f7e3c4", "d3ab86"), 22),
    "butterfly": _Kind(creatures.butterfly, palette("7f62dc", "ffd166", "3b2a70", "efe6ff"), 30),
    "leaf": _Kind(things.leaf, palette("4f9d3a", "7cc24e", "d9f0a3", "7a5a36"), 40),
    "balloon": _Kind(things.balloon, palette("16a296", "ffe08a", "0d6f70", "b9773f", "7a4a2a"), 15),
    "cup": _Kind(things.cup, palette("4a9fe8", "f6fbff", "2567b3", "6b3f2a"), 18),
    "starfish": _Kind(creatures.starfish, palette("ffc93c", "f0972a", "fff1b8", "6b3a1e"), 36),
    "owl": _Kind(creatures.owl, palette("96623b", "6d4328", "f8e6c8", "f5a623", "2c1d1a"), 15),
    "snail": _Kind(creatures.snail, palette("f0719f", "b83d74", "ffe3ea", "e9c79b", "4a2b3c"), 18),
    "boat": _Kind(things.boat, palette("27406e", "fdfdf8", "d94a4a", "6b4a35"), 15),
}
OBJECTS: tuple[str, ...] = tuple(_KINDS)

# Fraction of the picture that an object covers. The mask must cover 5 to 20 %; the margin allows for rounding the mask
# to pixels.
_AREA = (0.07, 0.175)
_STRETCH = 0.07  # largest change of the proportions, at constant area
_RIM = 0.055  # width of the pale rim, object units, which makes every object visible on every background
_RIM_COLOUR = np.array([255.0, 252.0, 244.0], np.float32)
_RELIEF = 0.16  # strength of the light on slopes
_LIGHT = (-0.45, -0.9)  # direction to the light: above, slightly left


def render_object(
    object_class: int, rng: np.random.Generator, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int]]:
    """Draw one object at a random pose.

    Args:
        object_class: Index into OBJECTS.
        rng: Random generator of pose, colours and texture; the draws do not depend on ``size``.
        size: Side of the square picture, pixels.

    Returns:
        Colour (h, w, 3) premultiplied by coverage, 0 to 255; coverage (h, w), 0 to 1; and the top left corner (y, x) of
        this patch in the picture, which contains all of it.
    """
    kind = _KINDS[OBJECTS[object_class]]
    unit_area, radius = _extent(object_class)
    area, turn, stretch, across, down = rng.uniform((_AREA[0], -1, -1, 0, 0), (_AREA[1], 1, 1, 1, 1))
    flip = 1.0 if rng.random() < 0.5 else -1.0
    # Pixels per object unit, such that the object covers this area and fits at any rotation.
    scale = min(size * float(np.sqrt(area / unit_area)), (size - 3.0) / (2.0 * radius * (1.0 + _STRETCH)))
    angle, stretch = np.deg2rad(kind.max_turn * turn), 1.0 + _STRETCH * stretch
    cos, sin = np.cos(angle), np.sin(angle)
    pose = np.array([[cos, -sin], [sin, cos]]) @ np.diag([flip * stretch, 1.0 / stretch])
    colours = jitter(kind.colours, rng, hue=9.0, light=0.07, saturation=0.12)

    supersample = max(2, -(-216 // size))  # small pictures need more, for an accurate rim and mask
    colour, coverage = _draw(kind, pose, scale, radius * (1.0 + _STRETCH), colours, rng, supersample)
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    colour, coverage = colour[window], coverage[window]
    colour = _shade(colour, coverage, scale)
    top = round(down * (size - coverage.shape[0]))
    left = round(across * (size - coverage.shape[1]))
    return colour, coverage, (top, left)


def _draw(
    kind: _Kind,
    pose: NDArray[np.float64],
    scale: float,
    radius: float,
    colours: Floats,
    rng: np.random.Generator,
    supersample: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colour premultiplied by coverage, and coverage, at the final resolution, in whose pixels ``scale`` is."""
    half = supersample * int(np.ceil(radius * scale + 1))
    scale *= supersample
    canvas = Canvas(pose, scale, half)
    kind.draw(canvas, colours, rng)
    rim = max(1, round(_RIM * scale))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    covered = cv2.dilate(canvas.rgba[..., 3], brush)
    side = 2 * half // supersample
    small = cv2.resize(canvas.rgba, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    coverage = cv2.resize(covered, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
    border = np.maximum(coverage - small[..., 3] * np.float32(1 / 255), 0.0)
    return np.asarray(small[..., :3] + border[..., None] * _RIM_COLOUR, np.float32), coverage


def _shade(colour: NDArray[np.float32], coverage: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Shade the flat drawing like a cushion lit from above, whose height is the blurred coverage."""
    pad = int(np.ceil(0.3 * scale)) + 1
    padded = cv2.copyMakeBorder(coverage, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    height = cv2.GaussianBlur(padded, (0, 0), 0.16 * scale)
    # Sobel gives eight times the slope per pixel; ``scale`` makes it per object unit.
    slope = [cv2.Sobel(height, cv2.CV_32F, dx, 1 - dx)[pad:-pad, pad:-pad] * (scale / 8) for dx in (1, 0)]
    relief = slope[0] * _LIGHT[0] + slope[1] * _LIGHT[1]
    fall = np.linspace(0.06, -0.08, coverage.shape[0], dtype=np.float32)[:, None]
    light = np.clip(fall - _RELIEF * relief, -0.4, 0.4)[..., None]
    white = 255.0 * coverage[..., None]
    return np.asarray(np.where(light > 0, colour + light * (white - colour), colour * (1 + light)), np.float32)


@cache
def _extent(object_class: int) -> tuple[float, float]:
    """Area (square units) and radius (units) of a class's outline with its rim, measured in a large drawing."""
    kind, scale = _KINDS[OBJECTS[object_class]], 64.0
    _, coverage = _draw(kind, np.eye(2), scale, 1.5, kind.colours, np.random.default_rng(0), 2)
    y, x = np.nonzero(coverage > 0)
    centre = (coverage.shape[0] - 1) / 2
    return float(coverage.sum()) / scale**2, float(np.hypot(y - centre, x - centre).max() + 1.0) / scale
