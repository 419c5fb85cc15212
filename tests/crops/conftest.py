import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

SLACK = 1e-9


def blobs(rng, height, width):
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        mask[y : y + int(rng.integers(1, height + 1)), x : x + int(rng.integers(1, width + 1))] = 255
    return mask


def corner(rng, height, width):
    mask = np.zeros((height, width), np.uint8)
    mask[: int(rng.integers(1, 4)), : int(rng.integers(1, 6))] = 1
    return np.ascontiguousarray(mask[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])])


def far_corners(rng, height, width):
    mask = np.zeros((height, width), np.uint8)
    mask[0, 0] = mask[-1, -1] = 3
    return mask


def noise(rng, height, width):
    return (rng.random((height, width)) < rng.random()).astype(np.uint8)


def line(rng, height, width):
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:
        mask[int(rng.integers(height))] = 1
    else:
        mask[:, int(rng.integers(width))] = 1
    return mask


def diagonal(rng, height, width):
    mask = np.zeros((height, width), np.uint8)
    steps = np.linspace(0, 1, max(height, width))
    mask[np.round(steps * (height - 1)).astype(int), np.round(steps * (width - 1)).astype(int)] = 1
    return mask


def full(rng, height, width):
    return np.full((height, width), 7, np.uint8)


def empty(rng, height, width):
    return np.zeros((height, width), np.uint8)


KINDS = (blobs, corner, far_corners, noise, line, diagonal, full, empty)


def table_of(mask):
    """The summed-area table, by numpy alone."""
    return np.pad((mask != 0).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def contained(table, boxes, within=None):
    """Salient pixels in each of (n, 4) boxes, inside ``within``."""
    x1, y1, x2, y2 = np.asarray(boxes).T
    if within is not None:
        x1, x2 = (np.clip(x, within[0], within[2]) for x in (x1, x2))
        y1, y2 = (np.clip(y, within[1], within[3]) for y in (y1, y2))
    return table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]


def every_box(height, width):
    """All boxes of an image, (n, 4)."""
    across, down = (list(itertools.combinations(range(length + 1), 2)) for length in (width, height))
    return np.array([(x1, y1, x2, y2) for x1, x2 in across for y1, y2 in down])


def distances(boxes, shape, scale, ratio):
    """How far boxes lie outside the two ranges, in the logarithm; 0 inside."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]

    def outside(values, limits):
        distance = np.maximum(np.log(limits[0] / values), np.log(values / limits[1]))
        return np.where(distance < SLACK, 0.0, distance)

    return outside(width * height / (shape[0] * shape[1]), scale), outside(width / height, ratio)


def covering(mask, boxes, min_coverage, within=None):
    """Which boxes cover enough of the mask, and of its part ``within``."""
    table = table_of(mask)
    enough = np.ones(len(boxes), bool)
    for region in (None, within) if within is not None else (None,):
        total = table[-1, -1] if region is None else contained(table, [region])[0]
        enough &= contained(table, boxes, region) >= min_coverage * total - 1e-9
    return enough


def drawable(mask, min_coverage, scale, ratio, within=None):
    """All boxes that may be drawn, from a list of every box; and the limit that they exceed."""
    boxes = every_box(*mask.shape)
    covers = covering(mask, boxes, min_coverage, within)
    by_scale, by_ratio = distances(boxes, mask.shape, scale, ratio)
    in_ratio = by_ratio <= by_ratio.min() + SLACK
    nearest = in_ratio & (by_scale <= by_scale[in_ratio].min() + SLACK)
    limit = "ratio" if by_ratio.min() > 0 else "scale" if by_scale[nearest].min() > 0 else None
    if (nearest & covers).any():
        return boxes[nearest & covers], limit
    for size, exceeded in growing(boxes[in_ratio], boxes[nearest], mask.shape):
        fits = covers & (sides(boxes) == size).all(axis=1)
        if fits.any():
            return boxes[fits], limit if limit == "ratio" else exceeded
    raise AssertionError("the full image covers everything")


def sides(boxes):
    return boxes[:, 2:] - boxes[:, :2]


def growing(in_ratio, nearest, shape):
    """Yield the sizes to try where no box of the nearest sizes covers enough, and the limit that each exceeds."""
    height, width = shape
    w, h = max(sides(in_ratio).tolist(), key=lambda size: size[0] * size[1])
    least = sides(nearest).prod(axis=1).min()
    for step in range(1, max(w, h) + 1):
        size = (math.ceil(step * w / max(w, h)), math.ceil(step * h / max(w, h)))
        if size in set(map(tuple, sides(in_ratio).tolist())) and size[0] * size[1] >= least:
            yield size, "scale"
    if width / w >= height / h:
        yield from (((wider, height), "ratio") for wider in range(w, width + 1))
    else:
        yield from (((width, taller), "ratio") for taller in range(h, height + 1))


def weights(boxes, shape, law):
    """How likely each box is, up to a factor."""
    if law == "uniform":
        return np.ones(len(boxes))
    return 1 / ((shape[1] - boxes[:, 2] + boxes[:, 0] + 1) * (shape[0] - boxes[:, 3] + boxes[:, 1] + 1))


def any_box_allowed(mask, min_coverage, scale, ratio, every=1):
    """Whether a box within all limits exists: tries the tallest of each width, everywhere."""
    height, width = mask.shape
    table = table_of(mask)
    for w in range(width, 0, -every):
        tallest = min(height, w / ratio[0] * (1 + SLACK), scale[1] * width * height / w * (1 + SLACK))
        h = int(tallest)
        if h < 1 or h < w / ratio[1] * (1 - SLACK) or w * h < scale[0] * width * height * (1 - SLACK):
            continue
        rows = table[h:] - table[:-h]
        if (rows[:, w:] - rows[:, :-w]).max() >= min_coverage * table[-1, -1] - 1e-9:
            return True
    return False


@pytest.fixture(scope="session")
def brute():
    """The boxes by brute force, with no code in common with the code under test; and masks of all kinds."""
    functions = (table_of, contained, every_box, distances, covering, drawable, sides, weights, any_box_allowed, noise)
    return SimpleNamespace(KINDS=KINDS, **{function.__name__: function for function in functions})
