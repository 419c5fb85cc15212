"""The guided filter and the CRF against plain float64 loops."""

import numpy as np
import pytest

from castlit.saliency.algorithms.refine import crf, finish, guided_filter, sharpen


def test_guided_filter():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (14, 17, 3)).astype(np.uint8)
    values = rng.random((14, 17)).astype(np.float32)
    radius, epsilon = 2, 1e-2
    # cv2.blur mirrors at the border, without repeating the outermost pixel.
    guide = np.pad(image / 255.0, ((4, 4), (4, 4), (0, 0)), "reflect")
    level = np.pad(values.astype(np.float64), 4, "reflect")
    slopes, offsets = {}, {}
    for y in range(-2, 16):
        for x in range(-2, 19):
            window = (slice(y + 4 - radius, y + 5 + radius), slice(x + 4 - radius, x + 5 + radius))
            colours, levels = guide[window].reshape(-1, 3), level[window].ravel()
            covariance = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
            with_level = (colours * levels[:, None]).mean(0) - colours.mean(0) * levels.mean()
            slopes[y, x] = np.linalg.solve(covariance, with_level)
            offsets[y, x] = levels.mean() - slopes[y, x] @ colours.mean(0)
    found = guided_filter(image, values, radius, epsilon)
    for y in range(2, 12):
        for x in range(2, 15):
            near = [(v, u) for v in range(y - 2, y + 3) for u in range(x - 2, x + 3)]
            slope = np.mean([slopes[at] for at in near], 0)
            offset = np.mean([offsets[at] for at in near])
            assert found[y, x] == pytest.approx(np.clip(slope @ (image[y, x] / 255.0) + offset, 0, 1), abs=2e-3)


def slow_mean_field(image, values, steps=5):
    """For images not larger than the grid."""
    height, width = values.shape
    colours = image.reshape(-1, 3) / 255.0
    places = np.array([(x, y) for y in range(height) for x in range(width)]) / max(height, width)
    n = height * width
    kernels = []
    for weight, colour_sigma, place_sigma in ((3.0, 0.08, 0.2), (1.0, np.inf, 0.02)):
        kernel = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    apart = ((places[i] - places[j]) ** 2).sum() / (2 * place_sigma**2)
                    unlike = ((colours[i] - colours[j]) ** 2).sum() / (2 * colour_sigma**2)
                    kernel[i, j] = np.exp(-apart - unlike)
        root = 1 / np.sqrt(np.maximum(kernel.sum(1), 1e-12))
        kernels.append(weight * kernel * root[:, None] * root)
    belief = values.ravel().astype(np.float64)
    sure = np.clip(belief, 0.02, 0.98)
    for _ in range(steps):
        # The normalised exponentials of both labels' energies.
        for_object = np.log(sure) + sum(kernel @ belief for kernel in kernels)
        for_ground = np.log(1 - sure) + sum(kernel @ (1 - belief) for kernel in kernels)
        belief = np.exp(for_object) / (np.exp(for_object) + np.exp(for_ground))
    return belief.reshape(height, width)


def test_crf_matches_mean_field():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    values = rng.random((9, 12)).astype(np.float32)
    expected = guided_filter(image, slow_mean_field(image, values).astype(np.float32), radius=2)
    assert crf(image, values) == pytest.approx(expected, abs=1e-4)


def test_crf_aligns_to_edges(red_on_green):
    image, inside = red_on_green
    rows, columns = np.mgrid[:90, :120]
    vague = np.exp(-(((columns - 62) / 25) ** 2 + ((rows - 46) / 25) ** 2) / 2).astype(np.float32)
    found = crf(image, vague)
    assert np.abs(found - inside).mean() < 0.3 * np.abs(vague - inside).mean()


def test_sharpen():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.15, 0.03, 700), rng.normal(0.35, 0.03, 300)]).clip(0, 1)
    found = sharpen(values.reshape(20, 50).astype(np.float32)).ravel()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert (found.min(), found.max()) == (0, 1)
    # Unsharpened, a cut at one half would find nothing.
    assert (found[700:] > 0.5).mean() > 0.97
    assert (found[:700] > 0.5).mean() < 0.03


def test_finish_of_an_empty_map(red_on_green):
    image, _ = red_on_green
    assert not finish(image, np.zeros((90, 120), np.float32)).any()


def test_finish_aligns_to_edges(red_on_green):
    image, inside = red_on_green
    rough = np.zeros((90, 120), np.float32)
    rough[25:66, 40:86] = 0.6  # five pixels too large
    found = finish(image, rough)
    assert ((found > 0.5) != inside).sum() < 0.65 * ((rough > 0.5) != inside).sum()
