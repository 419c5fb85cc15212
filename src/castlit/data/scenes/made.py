"""Five man-made backgrounds: knit, planks, tiles, bricks, metal. Each has its own palette, direction and frequency."""

import numpy as np

from castlit.data.scenes.colour import Floats
from castlit.data.scenes.textures import blend, cells, edge, noise, ramp, turned

_TAU = np.float32(2 * np.pi)


def knit(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Stocking stitch: columns of V, with rows in another colour."""
    dark, mid, light, band = colours
    x, y = turned(side, rng.uniform(-6, 6))
    columns, left, top = rng.uniform((9.5, 0, 0), (11, 1, 1)).astype(np.float32)
    _, across = cells(x * columns + left)
    across = np.abs(across)
    row, along = cells(y * columns * np.float32(1.15) + top - np.float32(1.1) * across)
    puff = np.float32(1.1) - np.float32(3.2) * along**2 - np.float32(8) * (across - np.float32(0.25)) ** 2
    image = ramp(0.8 * puff, dark, mid, light)
    striped = ((row + rng.integers(6)) % 6 < 1).astype(np.float32)
    image += (ramp(0.8 * puff, mid, band, band) - image) * striped[..., None]
    return image


def planks(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Upright boards with a grain."""
    gap, dark, light = colours
    x, _ = turned(side, rng.uniform(-4, 4))
    width, left = rng.uniform((4.6, 0), (5.4, 1)).astype(np.float32)
    board, across = cells(x * width + left)
    tint = _tints(rng, board)
    bow = 1.1 * noise(rng, side, 6, 4) * np.cos(np.pi * across)
    grain = np.sin(_TAU * (across * np.float32(2.6) + bow + 2 * tint))
    image = ramp(0.52 + 0.2 * grain + 0.26 * tint, dark, light)
    blend(image, gap, edge(np.abs(across) - np.float32(0.46), 0.8 * width / side))
    return image


def tiles(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Glazed tiles: flowers on a chequerboard."""
    grout, glaze, pale, deep = colours
    x, y = turned(side, rng.uniform(-5, 5))
    count, left, top = rng.uniform((3.9, 0, 0), (4.5, 1, 1)).astype(np.float32)
    soft = 0.7 * count / side
    column, across = cells(x * count + left)
    row, down = cells(y * count + top)
    across, down = np.abs(across), np.abs(down)
    odd = (column + row) % 2
    image = ramp(odd, glaze, pale)
    petals = edge(np.float32(0.165) - np.hypot(across - np.float32(0.15), down - np.float32(0.15)), soft)
    blend(image, pale, petals * (1 - odd))
    blend(image, deep, petals * odd)
    heart = edge(np.float32(0.1) - np.hypot(across, down), soft)
    blend(image, deep, heart * (1 - odd))
    blend(image, pale, heart * odd)
    blend(image, grout, edge(np.maximum(across, down) - np.float32(0.475), soft))
    return image


def bricks(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Running bond with pale mortar."""
    mortar, dark, light = colours
    x, y = turned(side, rng.uniform(-4, 4))
    rows, left, top = rng.uniform((8, 0, 0), (9.2, 1, 1)).astype(np.float32)
    row, down = cells(y * rows + top)
    column, across = cells(x * rows * np.float32(0.45) + left + np.float32(0.5) * (row % 2))
    tint = _tints(rng, column, row)
    image = ramp(0.5 + 0.36 * tint - 0.3 * down + 0.12 * noise(rng, side, 24), dark, light)
    joint = np.maximum(np.abs(down) - np.float32(0.5), (np.abs(across) - np.float32(0.5)) / np.float32(0.45))
    blend(image, mortar, edge(joint + np.float32(0.1), 0.6 * rows / side))
    return image


def metal(rng: np.random.Generator, side: int, colours: Floats) -> Floats:
    """Corrugated sheets that overlap in a bolted seam."""
    dark, mid, light = colours
    x, y = turned(side, rng.uniform(-7, 7))
    ridges, left, top = rng.uniform((10.5, 0, 0), (12.5, 1, 1)).astype(np.float32)
    _, across = cells(x * ridges + left)
    _, down = cells(y * np.float32(1.6) + top)
    image = ramp(0.5 + 0.42 * np.cos(_TAU * across) + 0.1 * noise(rng, side, 3), dark, mid, light)
    image *= (1 - 0.22 * np.exp(-np.float32(14) * (down + np.float32(0.5))))[..., None]
    bolt = np.hypot(across / ridges, (down - np.float32(0.42)) / np.float32(1.6))
    blend(image, dark * np.float32(0.7), edge(np.float32(0.02) - bolt, 0.5 / side))
    return image


def _tints(rng: np.random.Generator, column: Floats, row: Floats | None = None) -> Floats:
    """A random tint in [-1, 1] for each cell, at each pixel, given the pixel's column and row of cells."""
    table = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
    down = 0 if row is None else row.astype(np.int32) % 16
    tint: Floats = table[down, column.astype(np.int32) % 16]
    return tint
