"""Metrics of saliency maps against hand-made cases, plain loops, and values of py-sod-metrics 1.6.2."""

import numpy as np
import pytest

from castlit.evaluation import SaliencyScores
from castlit.evaluation.saliency.scores import f_curve, overlap, s_measure


def scores(values, mask):
    found = SaliencyScores()
    found.add(np.asarray(values, np.float32), np.asarray(mask, np.uint8))
    return found.results()


def made(seed, shape=(40, 56)):
    """A soft map that correlates with its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    y, x = rng.integers(0, 20), rng.integers(0, 28)
    mask[y : y + 17, x : x + 21] = 255
    values = np.clip(0.5 * (mask > 0) + 0.5 * rng.random(shape), 0, 1).astype(np.float32)
    return values, mask


def test_perfect_map():
    _, mask = made(0)
    found = scores(mask / 255, mask)
    assert found["max_f"] == 1
    assert found["mae"] == 0
    assert found["s_measure"] == pytest.approx(1)
    assert found["iou"] == 1


def test_inverted_mask():
    _, mask = made(0)
    found = scores(1 - mask / 255, mask)
    assert found["mae"] == 1
    assert found["iou"] == 0
    assert found["s_measure"] == 0


def test_half_of_the_mask():
    mask = np.zeros((10, 10), np.uint8)
    mask[:4, :5] = 1  # 20 pixels
    values = np.zeros((10, 10), np.float32)
    values[:2, :] = 1  # 20 pixels, of which 10 hit
    found = scores(values, mask)
    # Precision and recall are a half wherever the map is cut above 0; below, precision 0.2 and recall 1.
    half, all_ = 1.3 * 0.25 / (0.3 * 0.5 + 0.5), 1.3 * 0.2 / (0.3 * 0.2 + 1)
    assert found["max_f"] == pytest.approx(half)
    assert found["mean_f"] == pytest.approx((255 * half + all_) / 256)
    assert found["mae"] == pytest.approx(0.2)
    assert found["iou"] == pytest.approx(10 / 30)


def test_f_curve_equals_loop():
    values, mask = made(1)
    inside = mask > 0
    levels = (values.astype(np.float64) * 255).astype(np.uint8)
    for i, found in enumerate(f_curve(values.astype(np.float64), inside)):
        cut = levels >= 255 - i
        hits = (cut & inside).sum()
        precision, recall = hits / max(cut.sum(), 1), hits / inside.sum()
        expected = 1.3 * precision * recall / (0.3 * precision + recall) if hits else 0
        assert found == pytest.approx(expected)


def test_means_and_merge():
    both = SaliencyScores()
    halves = [SaliencyScores(), SaliencyScores()]
    curves = []
    for seed, half in enumerate(halves):
        values, mask = made(seed)
        both.add(values, mask)
        half.add(values, mask)
        levels = (values * 255).astype(np.float64).round()
        curves.append(f_curve((levels - levels.min()) / (levels.max() - levels.min()), mask > 0))
    assert both.results()["max_f"] == pytest.approx(np.mean(curves, 0).max())
    for name in ("mae", "s_measure", "iou", "mean_f"):
        assert both.results()[name] == pytest.approx(np.mean([half.results()[name] for half in halves]))
    halves[0].merge(halves[1])
    assert halves[0].results() == both.results()
    assert both.images == 2


def test_maps_are_resized():
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 1
    assert scores([[0, 0, 1, 1]] * 4, mask)["iou"] > 0.9


def test_empty_and_full_masks():
    nothing, everything = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    assert overlap(nothing, nothing) == 1
    assert overlap(nothing, everything) == 0
    assert s_measure(np.full((8, 8), 0.25), nothing) == 0.75
    assert s_measure(np.full((8, 8), 0.25), everything) == 0.25


def test_only_iou_uses_unstretched_maps():
    """A pale map of the right shape is perfect when stretched, and empty at the threshold of training."""
    _, mask = made(0)
    found = scores(0.4 * (mask > 0), mask)
    assert found["max_f"] == 1
    assert found["mae"] == 0
    assert found["iou"] == 0


def test_noted_values_of_py_sod_metrics():
    """py-sod-metrics 1.6.2 needs an old numpy, so the tests use its noted values."""
    noted = [
        (0.374101, 0.239127, 0.444913, 0.416620),
        (0.287483, 0.222366, 0.435973, 0.415831),
        (0.419573, 0.251645, 0.443918, 0.416324),
    ]
    for seed, values in enumerate(noted):
        clear, mask = made(seed)
        noise = np.random.default_rng(100 + seed).random(clear.shape)
        found = scores(0.25 * clear + 0.75 * noise, mask)
        assert [found[name] for name in ("max_f", "mean_f", "mae", "s_measure")] == pytest.approx(values, abs=1e-6)


def test_noise_is_at_chance():
    mask = np.zeros((200, 300), np.uint8)
    mask[50:110, 60:260] = 1  # a fifth
    found = scores(np.random.default_rng(0).random(mask.shape), mask)
    assert found["mae"] == pytest.approx(0.5, abs=0.01)
    assert found["max_f"] == pytest.approx(1.3 * 0.2 / (0.3 * 0.2 + 1), abs=0.005)  # all of the image
    assert found["iou"] == pytest.approx(0.1 / 0.6, abs=0.01)  # half of everything


@pytest.mark.filterwarnings("ignore:This class will be removed")
def test_agrees_with_py_sod_metrics():
    """Runs if py-sod-metrics is installed; it needs an old numpy, so the tests do not depend on it."""
    library = pytest.importorskip("py_sod_metrics")
    for seed in range(5):
        values, mask = made(seed)
        levels = (values * 255).round().astype(np.uint8)
        f, mae, s = library.Fmeasure(beta=0.3), library.MAE(), library.Smeasure()
        for metric in (f, mae, s):
            metric.step(levels, mask)
        found = scores(values, mask)
        curve = f.get_results()["fm"]["curve"]
        assert found["max_f"] == pytest.approx(curve.max(), abs=1e-6)
        assert found["mean_f"] == pytest.approx(curve.mean(), abs=1e-6)
        assert found["mae"] == pytest.approx(mae.get_results()["mae"], abs=1e-6)
        assert found["s_measure"] == pytest.approx(s.get_results()["sm"], abs=1e-6)
