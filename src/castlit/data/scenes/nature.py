"""Five outdoor backgrounds: sea, meadow, pines, dunes, night. Each has its own palette, direction and frequency."""

import numpy as np

from castlit.data.scenes.colour import Floats
from castlit.data.scenes.textures import Bytes, dots, drawable, fill, noise, ramp, stroke, turned

_TAU = np.float32(2 * np.pi)


def sea(rng: np.random.Generator, side: int, colours: Floats) -> Bytes:
    """Rows of waves, each with a crest of foam."""
    deep, mid, light, foam = colours
    rows = 9
    waves, tilt, start = rng.uniform(4.2, 5.2), rng.uniform(-0.1, 0.1), rng.uniform(-1, 0) / rows
    phase = rng.uniform(0, 1, rows + 2)
    image = drawable(np.full((side, side, 3), light, np.float32))
    x = np.linspace(-0.05, 1.05, 56)
    for row in range(rows + 2):
        crest = start + row / rows - 0.045 * np.abs(np.sin(np.pi * (waves * x + phase[row]))) + tilt * (x - 0.5)
        top = np.stack([x, crest], 1)
        near = np.float32(row / rows)
        colour = light + near * (mid - light) if row % 2 else mid + near * (deep - mid)
        fill(image, colour, np.concatenate([top, [[1.1, 1.2], [-0.1, 1.2]]])[None])
        stroke(image, foam, top[None], 0.013)
    return image


def meadow(rng: np.random.Generator, side: int, colours: Floats) -> Bytes:
    """Upright blades of grass, with daisies."""
    dark, mid, light, petal, heart = colours
    image = drawable(ramp(0.5 + 0.35 * noise(rng, side, 5), dark, mid))
    lean = rng.uniform(-0.25, 0.25)
    for colour, count, length in ((dark, 70, 0.13), (mid, 100, 0.12), (light, 100, 0.105)):
        root = rng.uniform((-0.05, 0.0), (1.05, 1.1), (count, 2))
        bend = rng.normal(lean, 0.16, count) * length
        tall = length * rng.uniform(0.7, 1.3, count)
        blades = np.stack([root, root + np.stack([0.3 * bend, -0.6 * tall], 1), root + np.stack([bend, -tall], 1)], 1)
        stroke(image, colour, blades, 0.013)
    # One flower in each of nine cells, so that none overlap.
    flowers = (np.stack([np.arange(9) % 3, np.arange(9) // 3], 1) + rng.uniform(0.1, 0.9, (9, 2))) / 3
    dots(image, petal, flowers, 0.027)
    dots(image, heart, flowers, 0.011)
    return image


# Left half of a fir, relative to its foot: from the tip down three tiers to the trunk. The right half mirrors it.
_HALF_FIR = np.array([(0, -0.2), (-0.036, -0.115), (-0.016, -0.115), (-0.052, -0.068), (-0.022, -0.068),
                      (-0.066, -0.02), (-0.01, -0.02), (-0.01, 0), (0, 0)])  # fmt: skip
_FIR_SHADOW = np.array([(-0.03, 0.0), (0.0, -0.022), (0.085, 0.014), (0.03, 0.018)])  # does not overlap the next fir's


def pines(rng: np.random.Generator, side: int, colours: Floats) -> Bytes:
    """Rows of firs with blue shadows on snow."""
    snow, hollow, lit, dark, shade = colours
    image = drawable(ramp(0.5 + 0.5 * noise(rng, side, 4), snow, hollow))
    rows, columns = 5, 8
    spread, start, offset = rng.uniform((0.165, 0.0, -0.15), (0.19, 1.0, 0.0))
    for row in range(rows + 2):
        x = offset + (np.arange(columns) + 0.5 * (row % 2)) * spread + rng.uniform(-0.014, 0.014, columns)
        y = (start + row) / rows + rng.uniform(-0.012, 0.012, columns)
        foot, tall = np.stack([x, y], 1)[:, None], rng.uniform(0.85, 1.1, columns)[:, None, None]
        fill(image, shade, foot + _FIR_SHADOW * tall)
        fill(image, dark, foot + _HALF_FIR * (-1, 1) * tall)
        fill(image, lit, foot + _HALF_FIR * tall)
    return image


def dunes(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Wind ripples in sand, lit on one flank and dark on the other."""
    x, y = turned(side, rng.uniform(-22, -8))
    bend, shift, frequency, phase = rng.uniform((1.0, 0.0, 8.5, 0.0), (1.5, 1.0, 10.5, 1.0)).astype(np.float32)
    warp = np.float32(0.05) * np.sin(_TAU * (x * bend + shift)) + 0.02 * noise(rng, side, 5)
    wave = _TAU * ((y + warp) * frequency + phase)
    ripple = np.sin(wave + np.float32(0.7) * np.sin(wave))
    return ramp(0.52 + 0.34 * ripple + 0.1 * noise(rng, side, 3), *colours)


def night(rng: np.random.Generator, side: int, colours: Floats) -> Bytes:
    """Star trails about a pole."""
    top, low, trail, star = colours
    _, y = turned(side, 0)
    image = drawable(ramp(y + np.float32(0.5) + 0.12 * noise(rng, side, 3), top, low))
    pole = rng.uniform((0.1, -0.1), (0.9, 0.35))
    count = 76
    radius = (np.arange(count) // 2 + rng.uniform(0.1, 0.9, count)) * (2.4 / count)
    begin, sweep = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.7, 1.9, count)
    angle = begin[:, None] + sweep[:, None] * np.linspace(0, 1, 20)
    arcs = pole + radius[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], 2)
    stroke(image, trail, arcs[::2], 0.013)
    stroke(image, star, arcs[1::2], 0.007)
    return image
