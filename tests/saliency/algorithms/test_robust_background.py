"""RBD against plain loops over its equations."""

import numpy as np
import pytest

from castlit.saliency.algorithms import robust_background as module
from castlit.saliency.algorithms.superpixels import segment


@pytest.fixture
def regions(red_on_green):
    return segment(red_on_green[0], 40)


def slow_geodesic(regions):
    n = len(regions)
    linked = regions.neighbours | np.outer(regions.border, regions.border)
    np.fill_diagonal(linked, False)
    colour = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in regions.lab] for a in regions.lab])
    free = np.mean([min(colour[i, j] for j in range(n) if linked[i, j]) for i in range(n)])
    distance = np.full((n, n), np.inf)
    for i in range(n):
        distance[i, i] = 0
        for j in range(n):
            if linked[i, j]:
                distance[i, j] = max(colour[i, j] - free, 0)
    for k in range(n):
        for i in range(n):
            for j in range(n):
                distance[i, j] = min(distance[i, j], distance[i, k] + distance[k, j])
    return distance


def test_geodesic_distances(regions):
    assert module.geodesic_distances(regions) == pytest.approx(slow_geodesic(regions), abs=1e-6)


def test_boundary_connectivity(regions):
    distance = slow_geodesic(regions)
    for i, found in enumerate(module.boundary_connectivity(regions)):
        area = sum(np.exp(-(d**2) / 200) for d in distance[i])
        length = sum(np.exp(-(d**2) / 200) for d, at in zip(distance[i], regions.border, strict=True) if at)
        assert found == pytest.approx(length / np.sqrt(area), rel=1e-6)


def test_background_weighted_contrast(regions):
    background = np.random.default_rng(0).random(len(regions))
    expected = []
    for i in range(len(regions)):
        total = 0.0
        for j in range(len(regions)):
            apart = ((regions.centres[i] - regions.centres[j]) ** 2).sum()
            colour = np.sqrt(((regions.lab[i] - regions.lab[j]) ** 2).sum())
            total += colour * np.exp(-apart / (2 * 0.25**2)) * background[j]
        expected.append(total)
    expected = (np.array(expected) - min(expected)) / (max(expected) - min(expected))
    assert module.background_weighted_contrast(regions, background) == pytest.approx(expected)


def test_optimise_minimises_the_energy(regions):
    rng = np.random.default_rng(0)
    background, foreground = rng.random((2, len(regions)))
    found = module.optimise(regions, background, foreground)

    near = regions.neighbours
    linked = np.zeros_like(near)
    for i in range(len(regions)):
        for j in range(len(regions)):
            through = any(near[i, k] and near[k, j] for k in range(len(regions)))
            linked[i, j] = i != j and (near[i, j] or through or (regions.border[i] and regions.border[j]))

    def energy(s):
        total = (background * s**2 + foreground * (s - 1) ** 2).sum()
        for i in range(len(regions)):
            for j in range(i):
                if linked[i, j]:
                    weight = np.exp(-((regions.lab[i] - regions.lab[j]) ** 2).sum() / 200) + 0.1
                    total += weight * (s[i] - s[j]) ** 2
        return total

    least = energy(found)
    for _ in range(20):
        assert energy(found + rng.normal(0, 0.01, len(found))) > least


def test_boundary_connectivity_of_object_and_background(red_on_green):
    image, inside = red_on_green
    regions = segment(image)
    connectivity = regions.to_pixels(module.boundary_connectivity(regions))
    assert connectivity[inside].mean() < 1
    assert connectivity[~inside].mean() > 2
