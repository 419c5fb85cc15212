"""Superpixels and their measurements, against plain loops."""

import numpy as np
import pytest

from castlit.saliency.algorithms.superpixels import segment, stretch, touching


def test_measurements(red_on_green):
    image, _ = red_on_green
    regions = segment(image, 60)
    height, width = regions.labels.shape
    assert sorted(set(regions.labels.ravel().tolist())) == list(range(len(regions)))
    assert 40 <= len(regions) <= 80
    for number in range(len(regions)):
        pixels = np.argwhere(regions.labels == number)
        assert regions.sizes[number] == len(pixels)
        assert regions.rgb[number] == pytest.approx(image[tuple(pixels.T)].mean(0) / 255)
        y, x = (pixels + 0.5).mean(0) / max(height, width)
        assert regions.centres[number] == pytest.approx([x, y])
        rows, columns = pixels.T
        assert regions.sides[:, number].tolist() == [
            0 in rows,
            height - 1 in rows,
            0 in columns,
            width - 1 in columns,
        ]
    assert regions.border.tolist() == regions.sides.any(0).tolist()


def test_touching():
    labels = np.array([[0, 0, 1], [2, 2, 1], [2, 3, 4]], np.int32)
    pairs = {(int(i), int(j)) for i, j in np.argwhere(touching(labels, 5)) if i < j}
    expected = set()
    for y in range(3):
        for x in range(3):
            for other in labels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].ravel().tolist():
                if labels[y, x] < other:
                    expected.add((int(labels[y, x]), other))
    assert pairs == expected


def test_colours_are_cie_lab():
    red = np.full((20, 20, 3), (255, 0, 0), np.uint8)
    assert segment(red, 4).lab[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


def test_to_pixels(red_on_green):
    regions = segment(red_on_green[0], 30)
    values = np.random.default_rng(0).random(len(regions))
    assert np.array_equal(regions.to_pixels(values), values.astype(np.float32)[regions.labels])


def test_stretch():
    assert stretch(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert not stretch(np.full(5, 7.0)).any()
    assert not stretch(np.array([1e6, 1e6 + 1e-3])).any()


def test_superpixels_follow_edges(red_on_green):
    """Nearly all pixels of a superpixel are on one side of an edge; with a grid of squares they are not."""
    image, inside = red_on_green
    regions = segment(image, 60)
    fractions = np.array([inside[regions.labels == number].mean() for number in range(len(regions))])
    mixed = np.minimum(fractions, 1 - fractions) * regions.sizes
    assert mixed.sum() < 0.01 * inside.size


def test_more_steps_change_little(red_on_green):
    image, inside = red_on_green
    five, twenty = (segment(image, 60, steps=steps) for steps in (5, 20))
    assert abs(len(five) - len(twenty)) <= 3
    for regions in (five, twenty):
        assert regions.to_pixels(np.array([inside[regions.labels == n].mean() for n in range(len(regions))])).max() == 1
