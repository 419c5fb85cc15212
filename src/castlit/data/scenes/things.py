"""Drawings of five things: mushroom, leaf, balloon, cup, boat. Each has its own outline, palette and texture."""

import numpy as np

from castlit.data.scenes.canvas import Canvas
from castlit.data.scenes.colour import Floats
from castlit.data.scenes.outlines import box, ellipse, mirrored, moved, points, smooth

_CAP = smooth(mirrored([(0, -0.88), (0.5, -0.74), (0.86, -0.32), (0.98, 0.06), (0.6, 0.2), (0, 0.24)]))
_STEM = smooth([(-0.26, 0.0), (-0.25, 0.4), (-0.36, 0.84), (0, 0.95), (0.36, 0.84), (0.25, 0.4), (0.26, 0.0)])
_BRIM = smooth([(-1, 0.12), (0, 0.3), (1, 0.12)], closed=False)
_SPOTS = ((0, -0.52, 0.19), (-0.5, -0.3, 0.16), (0.5, -0.32, 0.17), (-0.06, -0.06, 0.15), (0.72, 0.02, 0.12),
          (-0.68, 0.02, 0.13))  # fmt: skip


def mushroom(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Toadstool: white dots on a domed cap."""
    red, deep, white, cream, shade = colours
    canvas.fill(cream, _STEM)
    canvas.line(shade, 0.06, points((-0.08, 0.4), (-0.1, 0.8)), points((0.1, 0.4), (0.12, 0.75)))
    canvas.fill(shade, ellipse(0, 0.24, 0.42, 0.12))
    canvas.fill(red, _CAP)
    with canvas.inside(_CAP):
        canvas.line(deep, 0.14, _BRIM)
        for (x, y, radius), (dx, dy) in zip(_SPOTS, rng.uniform(-0.06, 0.06, (len(_SPOTS), 2)), strict=True):
            canvas.fill(white, ellipse(x + dx, y + dy, radius, 0.85 * radius))


_LEAF = smooth([(0, -1.08), (0.2, -0.8), (0.5, -0.4), (0.56, 0.1), (0.36, 0.5), (0, 0.72), (-0.36, 0.5), (-0.56, 0.1),
                (-0.5, -0.4), (-0.2, -0.8)])  # fmt: skip
_RIB = smooth([(0, -0.98), (0.02, 0), (0, 0.72), (0.1, 1.06)], closed=False)


def leaf(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Leaf: veins in chevrons, one half lighter."""
    green, light, vein, stalk = colours
    canvas.line(stalk, 0.13, _RIB[10:])
    canvas.fill(green, _LEAF)
    start, rise = rng.uniform(-0.08, 0.08), rng.uniform(0.24, 0.36)
    with canvas.inside(_LEAF):
        canvas.fill(light, box(-1, -1.2, 0, 1))
        levels = start - 0.6 + 0.24 * np.arange(6)
        canvas.line(vein, 0.06, *(points((-0.6, y - rise), (0, y), (0.6, y - rise)) for y in levels))
        canvas.line(vein, 0.1, _RIB)


_ENVELOPE = smooth(mirrored([(0, -1.06), (0.46, -0.94), (0.76, -0.56), (0.74, -0.14), (0.46, 0.24), (0.2, 0.5),
                             (0, 0.52)]))  # fmt: skip
_MERIDIAN = _ENVELOPE[: len(_ENVELOPE) // 2 + 1]  # the right side, from top to bottom
_LEFT_SIDE = points((-1.2, 0.6), (-1.2, -1.1))
_SKIRT = smooth([(-0.6, 0.3), (0, 0.42), (0.6, 0.3)], closed=False)
_BASKET = smooth(mirrored([(0, 0.72), (0.2, 0.72), (0.18, 1.0), (0, 1.03)]), steps=3)


def balloon(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Hot-air balloon: vertical gores in two colours."""
    teal, yellow, deep, basket, weave = colours
    canvas.line(weave, 0.07, points((-0.2, 0.4), (-0.16, 0.8)), points((0.2, 0.4), (0.16, 0.8)))
    canvas.fill(teal, _ENVELOPE)
    turn = rng.uniform(-0.12, 0.12)
    with canvas.inside(_ENVELOPE):
        # A gore's right edge is the right outline with x scaled by the sine of its longitude. From right to left, each
        # gore is filled from its edge to the left side.
        for k, longitude in enumerate(np.linspace(1.25, -1.25, 6)):
            edge = _MERIDIAN * np.array([np.sin(longitude + turn), 1.0], np.float32)
            canvas.fill(teal if k % 2 else yellow, np.concatenate([edge, _LEFT_SIDE]))
        canvas.line(deep, 0.1, _SKIRT)
    canvas.fill(basket, _BASKET)
    canvas.line(weave, 0.05, points((-0.18, 0.86), (0.18, 0.86)))


_MUG = smooth([(-0.74, -0.6), (-0.72, 0.2), (-0.6, 0.7), (-0.1, 0.84), (0.4, 0.7), (0.52, 0.2), (0.54, -0.6)], steps=6)
_HANDLE = smooth([(0.48, -0.32), (0.86, -0.36), (0.98, 0.0), (0.8, 0.34), (0.44, 0.38)], closed=False)
_FOOT = smooth([(-0.7, 0.66), (-0.1, 0.84), (0.5, 0.66)], closed=False)
_CHECKS = [moved(box(0, 0, 0.26, 0.26), 0.26 * x - 0.85, 0.26 * y - 0.8) for y in range(7) for x in range(y % 2, 6, 2)]


def cup(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Cup: checks, and a hot drink."""
    blue, white, deep, drink = colours
    canvas.line(deep, 0.2, _HANDLE)
    canvas.fill(white, _MUG)
    phase = rng.uniform(-0.1, 0.1)
    with canvas.inside(_MUG):
        canvas.fill(blue, *(moved(check, phase, 0) for check in _CHECKS))
        canvas.line(deep, 0.1, _FOOT)
    canvas.fill(deep, ellipse(-0.1, -0.6, 0.65, 0.23))
    canvas.fill(white, ellipse(-0.1, -0.6, 0.58, 0.17))
    canvas.fill(drink, ellipse(-0.1, -0.58, 0.5, 0.13))


_HULL = smooth([(-0.98, 0.42), (0, 0.46), (1.02, 0.38), (0.84, 0.7), (0.5, 0.9), (-0.5, 0.9), (-0.8, 0.7)], steps=4)
_MAIN_SAIL = smooth(
    [(0.0, -0.98), (0.3, -0.6), (0.66, 0.02), (0.8, 0.35), (0.4, 0.37), (0.02, 0.37), (0.0, -0.3)], steps=4
)
_FORE_SAIL = smooth([(-0.12, -0.8), (-0.4, -0.4), (-0.76, 0.34), (-0.4, 0.37), (-0.14, 0.37)], steps=4)


def boat(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Sailing boat: striped sails over a dark hull."""
    navy, white, red, wood = colours
    phase = rng.uniform(-0.08, 0.08)
    canvas.line(wood, 0.1, points((-0.05, -1.0), (-0.05, 0.5)))
    canvas.fill(white, _MAIN_SAIL, _FORE_SAIL)
    with canvas.inside(_MAIN_SAIL, _FORE_SAIL):
        canvas.line(red, 0.09, *(points((-1, y), (1, y)) for y in np.arange(-0.8, 0.4, 0.22) + phase))
    canvas.fill(navy, _HULL)
    with canvas.inside(_HULL):
        canvas.line(white, 0.08, points((-1.1, 0.58), (1.1, 0.56)))
