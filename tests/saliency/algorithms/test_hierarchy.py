"""HS against plain loops over its equations."""

import numpy as np
import pytest

from castlit.saliency.algorithms import hierarchy as module
from castlit.saliency.algorithms.superpixels import segment


def test_cue(red_on_green):
    regions = segment(red_on_green[0], 40)
    height, width = regions.labels.shape
    contrast, central = [], []
    for i in range(len(regions)):
        total = 0.0
        for j in range(len(regions)):
            apart = ((regions.relative_centres[i] - regions.relative_centres[j]) ** 2).sum()
            colour = np.sqrt(((regions.lab[i] - regions.lab[j]) ** 2).sum())
            total += regions.sizes[j] / (height * width) * np.exp(-apart / 0.1) * colour
        contrast.append(total)
        weights = [
            np.exp(-9 * (((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2))
            for y, x in np.argwhere(regions.labels == i)
        ]
        central.append(np.mean(weights))

    def stretched(values):
        values = np.array(values)
        return (values - values.min()) / (values.max() - values.min())

    assert module.cue(regions) == pytest.approx(stretched(stretched(contrast) * central))


def test_merged_regions_nest_and_contain_squares(red_on_green):
    image, _ = red_on_green
    fine = segment(image, 200)
    coarse = module.merge_small(image, fine, 17)
    assert 1 < len(coarse) < len(fine)
    for number in range(len(fine)):
        assert len(set(coarse.labels[fine.labels == number].tolist())) == 1
    for number in range(len(coarse)):
        inside = coarse.labels == number
        contains_square = any(
            inside[y : y + 17, x : x + 17].all()
            for y in range(inside.shape[0] - 16)
            for x in range(inside.shape[1] - 16)
        )
        assert contains_square


def test_square_sides():
    labels = np.zeros((12, 20), np.int32)
    labels[2:9, 3:10] = 1  # 7 x 7
    labels[3:6, 12:18] = 2  # 3 x 6
    sides = module.square_sides(labels, 3)
    assert sides[1:].tolist() == [7, 3]


def test_tree_minimises_its_energy(red_on_green):
    image, _ = red_on_green
    layers = [segment(image, 60)]
    layers.append(module.merge_small(image, layers[0], 17))
    layers.append(module.merge_small(image, layers[1], 33))
    rng = np.random.default_rng(0)
    cues = [rng.random(len(layer)) for layer in layers]
    found = module.agree(layers, cues)

    def energy(values):
        total = sum(beta * ((x - cue) ** 2).sum() for beta, x, cue in zip((0.5, 4, 2), values, cues, strict=True))
        for level in (0, 1):
            for i in range(len(layers[level])):
                parent = layers[level + 1].labels[layers[level].labels == i][0]
                total += 4 * (values[level][i] - values[level + 1][parent]) ** 2
        return total

    # Perturbed first layers have a higher energy, even with the best values of the other layers.
    def best_with(first):
        from scipy.optimize import minimize

        sizes = [len(layers[1]), len(layers[2])]
        result = minimize(lambda x: energy([first, x[: sizes[0]], x[sizes[0] :]]), np.full(sum(sizes), 0.5), tol=1e-10)
        return result.fun

    least = best_with(found)
    for _ in range(5):
        assert best_with(found + rng.normal(0, 0.05, len(found))) > least
