"""Drawings of five animals: fish, butterfly, starfish, owl, snail. Each has its own outline, palette and texture."""

import numpy as np

from castlit.data.scenes.canvas import Canvas
from castlit.data.scenes.colour import Floats
from castlit.data.scenes.outlines import Points, ellipse, flipped, grown, mirrored, moved, points, smooth

# Outlines are constant, so that an object's area is known: scenes vary pose, proportions, colours and texture.
_FISH = smooth([(1, 0), (0.7, -0.34), (0.15, -0.5), (-0.35, -0.32), (-0.66, -0.1), (-0.66, 0.1), (-0.35, 0.3),
                (0.15, 0.48), (0.7, 0.32)])  # fmt: skip
_TAIL = smooth([(-0.55, 0), (-0.8, -0.3), (-1.1, -0.46), (-1.0, 0), (-1.1, 0.46), (-0.8, 0.3)])
_BACK_FIN = smooth([(0.45, -0.38), (0.2, -0.74), (-0.25, -0.74), (-0.42, -0.28), (0, -0.3)])
_BELLY_FIN = smooth([(0.3, 0.42), (0.1, 0.74), (-0.2, 0.7), (-0.2, 0.32)])
_FIN_RAYS = [points((x, y), (x - 0.12, 1.7 * y)) for x in (-0.2, 0.0, 0.2) for y in (-0.42, 0.4)]
_TAIL_RAYS = [points((-0.7, y), (-1.0, 2.3 * y)) for y in (-0.12, 0.12)]
_BAND = smooth([(0, -0.6), (0.12, 0), (0, 0.6)], closed=False)


def fish(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Clown fish: white bands with dark edges."""
    orange, deep, white, ink = colours
    shift = rng.uniform(-0.06, 0.06)
    canvas.fill(deep, _TAIL, _BACK_FIN, _BELLY_FIN)
    canvas.line(orange, 0.05, *_FIN_RAYS, *_TAIL_RAYS)
    canvas.fill(orange, _FISH)
    with canvas.inside(_FISH):
        for x, width in ((0.42, 0.2), (-0.04, 0.22), (-0.48, 0.15)):
            band = moved(_BAND, x + shift, 0)
            canvas.line(ink, width + 0.1, band)
            canvas.line(white, width, band)
    canvas.fill(white, ellipse(0.74, -0.1, 0.115))
    canvas.fill(ink, ellipse(0.76, -0.1, 0.075))


_UPPER_WING = smooth([(0.06, -0.1), (0.25, -0.58), (0.68, -0.9), (1.02, -0.74), (0.98, -0.3), (0.66, 0.02),
                      (0.1, 0.08)])  # fmt: skip
_LOWER_WING = smooth([(0.06, 0.0), (0.55, 0.05), (0.84, 0.28), (0.78, 0.68), (0.46, 0.82), (0.18, 0.5)])
_INSECT = smooth(mirrored([(0, -0.36), (0.09, -0.2), (0.08, 0.25), (0, 0.62)]))
_FEELER = smooth([(0.02, -0.3), (0.1, -0.62), (0.3, -0.82)], closed=False)


def butterfly(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Butterfly: eyespots of rings on dark-edged wings."""
    violet, light, dark, cream = colours
    spot = rng.uniform(0.9, 1.12)
    for wing, x, y in ((_LOWER_WING, 0.45, 0.38), (_UPPER_WING, 0.55, -0.38)):
        canvas.fill(dark, wing)
        canvas.fill(dark, flipped(wing))
        inner = grown(wing, 0.8, x * 0.8, y)
        canvas.fill(violet, inner, flipped(inner))
    for x, y, radius in ((0.66, -0.48, 0.25), (0.5, 0.4, 0.2)):
        for colour, factor in ((cream, 1.0), (dark, 0.74), (light, 0.46)):
            ring = ellipse(x, y, radius * factor * spot)
            canvas.fill(colour, ring, flipped(ring))
    canvas.line(dark, 0.07, _FEELER, flipped(_FEELER))
    canvas.fill(dark, _INSECT)


def _star(tip: float, notch: float) -> Points:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, tip, notch)
    return smooth(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32), steps=6)


_STARFISH = _star(1.0, 0.47)
_SMILE = smooth([(-0.13, 0.12), (0, 0.2), (0.13, 0.12)], closed=False)


def starfish(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Starfish: rows of beads along five arms, and a smile."""
    gold, amber, pale, ink = colours
    size = rng.uniform(0.9, 1.15)
    canvas.fill(amber, _STARFISH)
    canvas.fill(gold, grown(_STARFISH, 0.84, 0, 0))
    arms = np.arange(5) * 2 * np.pi / 5 - np.pi / 2
    for radius, bead in ((0.42, 0.085), (0.6, 0.07), (0.76, 0.055)):
        beads = [ellipse(radius * np.cos(a), radius * np.sin(a), bead * size) for a in arms]
        canvas.fill(amber if radius == 0.6 else pale, *beads)
    canvas.fill(ink, ellipse(-0.15, -0.06, 0.07, 0.09), ellipse(0.15, -0.06, 0.07, 0.09))
    canvas.line(ink, 0.06, _SMILE)


_OWL = smooth(mirrored([(0, -0.72), (0.3, -0.76), (0.6, -0.98), (0.64, -0.5), (0.7, 0.1), (0.6, 0.62), (0.3, 0.9),
                        (0, 0.94)]))  # fmt: skip
_CHEST = smooth(mirrored([(0, -0.1), (0.34, 0.02), (0.44, 0.36), (0.3, 0.74), (0, 0.84)]))
_WING = smooth([(0.62, -0.2), (0.84, 0.2), (0.72, 0.62), (0.52, 0.74), (0.46, 0.3)])
_SCALE = smooth([(-0.11, 0), (0, 0.12), (0.11, 0)], steps=4, closed=False)
_SCALES = [moved(_SCALE, 0.22 * (x + 0.5 * (row % 2)), 0.02 + 0.18 * row) for row in range(5) for x in range(-2, 3)]


def owl(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Owl: a chest of scales, round eyes."""
    brown, dark, cream, beak, ink = colours
    phase = rng.uniform(-0.06, 0.06)
    canvas.fill(brown, _OWL)
    canvas.fill(cream, _CHEST)
    with canvas.inside(_CHEST):
        canvas.line(brown, 0.06, *(moved(scale, 0, phase) for scale in _SCALES))
    canvas.fill(dark, _WING, flipped(_WING))
    canvas.fill(cream, ellipse(-0.28, -0.38, 0.29))
    canvas.fill(cream, ellipse(0.28, -0.38, 0.29))
    canvas.fill(ink, ellipse(-0.25, -0.37, 0.15), ellipse(0.25, -0.37, 0.15))
    canvas.fill(cream, ellipse(-0.2, -0.43, 0.05), ellipse(0.3, -0.43, 0.05))
    canvas.fill(beak, points((-0.11, -0.24), (0.11, -0.24), (0, -0.02)))


_SLUG = smooth([(-1.08, 0.7), (-0.7, 0.5), (0.2, 0.42), (0.55, 0.2), (0.6, -0.2), (0.82, -0.34), (1.02, -0.12),
                (0.96, 0.34), (0.7, 0.7), (0.2, 0.78), (-0.6, 0.78)])  # fmt: skip
_STALKS = [smooth([(0.72, -0.2), (0.7, -0.5), (0.62, -0.68)], closed=False),
           smooth([(0.88, -0.2), (0.94, -0.5), (1.02, -0.64)], closed=False)]  # fmt: skip
_SHELL = ellipse(-0.16, -0.06, 0.66)
_TURN, _RADIUS = np.linspace(0.0, 4.4 * np.pi, 44), np.linspace(0.04, 0.6, 44)


def snail(canvas: Canvas, colours: Floats, rng: np.random.Generator) -> None:
    """Snail: a spiral shell."""
    shell, deep, cream, body, ink = colours
    canvas.line(body, 0.1, *_STALKS)
    canvas.fill(ink, ellipse(0.62, -0.68, 0.085), ellipse(1.02, -0.64, 0.085))
    canvas.fill(body, _SLUG)
    canvas.fill(deep, _SHELL)
    canvas.fill(shell, grown(_SHELL, 0.88, -0.16, -0.06))
    turn = _TURN + rng.uniform(-0.4, 0.4)
    spiral = np.stack([_RADIUS * np.cos(turn) - 0.16, _RADIUS * np.sin(turn) - 0.06], 1).astype(np.float32)
    with canvas.inside(_SHELL):
        canvas.line(cream, 0.13, spiral)
        canvas.line(deep, 0.05, spiral)
    canvas.fill(shell, ellipse(0.84, 0.02, 0.1, 0.07))
