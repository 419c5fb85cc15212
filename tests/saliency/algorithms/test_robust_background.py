"""RBD against plain loops over its equations."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from castlit.saliency.algorithms import robust_background as module
from castlit.saliency.algorithms.superpixels import segment


@pytest.fixture
def regions(red_on_green):
    return segment(red_on_green[0], 40)


@pytest.fixture
def border(regions):
    """The superpixels with a pixel in the band."""
    height, width = regions.labels.shape
    band = max(1, round(0.02 * max(height, width)))
    found = np.zeros(len(regions), bool)
    for y in range(height):
        for x in range(width):
            if min(x, y, width - 1 - x, height - 1 - y) < band:
                found[regions.labels[y, x]] = True
    assert 0 < found.sum() < len(regions)
    return found


def distances(regions):
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in regions.lab] for a in regions.lab])


def rings(regions):
    near, n = regions.neighbours, len(regions)
    return np.array(
        [
            [i != j and (near[i, j] or any(near[i, k] and near[k, j] for k in range(n))) for j in range(n)]
            for i in range(n)
        ]
    )


def slow_scales(regions):
    colour, n = distances(regions), len(regions)

    def smallest(linked):
        return np.mean([min(colour[i, j] for j in range(n) if linked[i, j]) for i in range(n)])

    top = np.mean(sorted(colour.ravel())[-max(1, round(0.01 * n * n)) :])
    near = smallest(regions.neighbours)
    return smallest(rings(regions)), max(5, min(10, 3 * near, top / 10)), min(20, 3 * near, 0.2 * top)


def slow_geodesic(regions, border, free):
    n, colour = len(regions), distances(regions)
    distance = np.full((n, n), np.inf)
    for i in range(n):
        for j in range(n):
            if regions.neighbours[i, j] or (border[i] and border[j]):
                distance[i, j] = max(colour[i, j] - free, 0)
        distance[i, i] = 0
    for k in range(n):
        for i in range(n):
            for j in range(n):
                distance[i, j] = min(distance[i, j], distance[i, k] + distance[k, j])
    return distance


def test_border_band(regions, border):
    assert (regions.near_border(module.BORDER) == border).all()


def test_colour_scales(regions):
    assert module.colour_scales(regions) == pytest.approx(slow_scales(regions))


def test_geodesic_distances(regions, border):
    found = module.geodesic_distances(regions, border, 3.0)
    assert found == pytest.approx(slow_geodesic(regions, border, 3.0), abs=1e-6)


def test_boundary_connectivity(regions, border):
    free, sigma, _ = slow_scales(regions)
    distance = slow_geodesic(regions, border, free)
    connectivity = module.boundary_connectivity(regions, border, module.colour_scales(regions))
    for i, found in enumerate(connectivity):
        area = sum(np.exp(-(d**2) / (2 * sigma**2)) for d in distance[i])
        length = sum(np.exp(-(d**2) / (2 * sigma**2)) for d, at in zip(distance[i], border, strict=True) if at)
        assert found == pytest.approx(length / np.sqrt(area), rel=1e-6)


def test_background_weighted_contrast(regions):
    background = np.random.default_rng(0).random(len(regions))
    height, width = regions.labels.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    places = [
        np.array([columns[regions.labels == i].mean() / width, rows[regions.labels == i].mean() / height])
        for i in range(len(regions))
    ]
    expected = []
    for i in range(len(regions)):
        total = 0.0
        for j in range(len(regions)):
            apart = ((places[i] - places[j]) ** 2).sum()
            colour = np.sqrt(((regions.lab[i] - regions.lab[j]) ** 2).sum())
            total += colour * np.exp(-apart / (2 * 0.4**2)) * background[j]
        expected.append(total)
    expected = (np.array(expected) - min(expected)) / (max(expected) - min(expected))
    assert module.background_weighted_contrast(regions, background) == pytest.approx(expected)


def test_clean():
    rng = np.random.default_rng(0)
    contrast = np.concatenate([rng.uniform(0, 0.3, 150), rng.uniform(0.6, 1, 50)])
    levels = (contrast * 255).astype(np.uint8)
    expected = np.where(levels > threshold_otsu(levels), contrast, 0)
    assert module.clean(contrast) == pytest.approx(expected)


def test_optimise_minimises_the_energy(regions, border):
    rng = np.random.default_rng(0)
    background, foreground = rng.random((2, len(regions)))
    found = module.optimise(regions, border, background, foreground, 12.0)
    linked = rings(regions)

    def energy(s):
        total = (background * s**2 + foreground * (s - 1) ** 2).sum()
        for i in range(len(regions)):
            for j in range(i):
                weight = 0.1 * regions.neighbours[i, j]
                if linked[i, j] or (border[i] and border[j]):
                    weight += np.exp(-((regions.lab[i] - regions.lab[j]) ** 2).sum() / (2 * 12.0**2))
                total += weight * (s[i] - s[j]) ** 2
        return total

    least = energy(found)
    for _ in range(20):
        assert energy(found + rng.normal(0, 0.01, len(found))) > least


@pytest.mark.parametrize("cleaned", [True, False])
def test_object_and_background(red_on_green, cleaned):
    image, inside = red_on_green
    found = module.rbd(image, cleaned=cleaned)
    assert found[inside].mean() > 0.9
    assert found[~inside].mean() < 0.1


def test_boundary_connectivity_of_object_and_background(red_on_green):
    image, inside = red_on_green
    regions = segment(image)
    border = regions.near_border(module.BORDER)
    connectivity = regions.to_pixels(module.boundary_connectivity(regions, border, module.colour_scales(regions)))
    assert connectivity[inside].mean() < 1
    assert connectivity[~inside].mean() > 2
