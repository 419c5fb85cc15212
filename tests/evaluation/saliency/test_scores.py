"""Metrics of saliency maps against hand-made cases, plain loops, and values of py-sod-metrics 1.6.2."""

import math

import cv2
import numpy as np
import pytest

from castlit.evaluation import SaliencyScores
from castlit.evaluation.saliency.moments import Moments, half_width
from castlit.evaluation.saliency.s_measure import s_measure
from castlit.evaluation.saliency.scores import overlap
from castlit.evaluation.saliency.thresholds import adaptive_f, curves
from castlit.evaluation.saliency.weighted_f import weighted_f


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
    assert found["max_f_of_means"] == found["adaptive_f"] == 1
    assert found["weighted_f"] == pytest.approx(1)
    assert found["max_e"] == pytest.approx(mask.size / (mask.size - 1))


def test_inverted_mask():
    _, mask = made(0)
    found = scores(1 - mask / 255, mask)
    assert found["mae"] == 1
    assert found["iou"] == 0
    assert found["s_measure"] == 0
    assert found["adaptive_f"] == 0
    assert found["weighted_f"] == pytest.approx(0, abs=1e-12)


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
    assert found["adaptive_f"] == pytest.approx(half)  # cut at 0.4
    # Both less their means are 0.8 and -0.2: they agree in 80 pixels, and in 20 by 2ab / (a² + b²) = -0.32 / 0.68.
    agree = (80 + 20 * ((1 - 0.32 / 0.68) / 2) ** 2) / 99
    assert found["max_e"] == pytest.approx(agree)
    assert found["mean_e"] == pytest.approx((255 * agree + 100 * 0.25 / 99) / 256)  # all ones: no agreement, (1 / 2)²


def test_curves_equal_loop():
    values, mask = made(1)
    values, inside = values.astype(np.float64), mask > 0
    levels = (values * 255).astype(np.uint8)
    found = curves(values, inside)
    truth = inside - inside.mean()
    for i in range(256):
        cut = levels >= 255 - i
        hits = (cut & inside).sum()
        precision, recall = hits / max(cut.sum(), 1), hits / inside.sum()
        assert (found.precision[i], found.recall[i]) == (precision, recall)
        assert found.f[i] == pytest.approx(1.3 * precision * recall / (0.3 * precision + recall) if hits else 0)
        centred = cut - cut.mean()
        agreement = (2 * centred * truth / (centred**2 + truth**2) + 1) ** 2 / 4
        assert found.e[i] == pytest.approx(agreement.sum() / (cut.size - 1))


def test_weighted_f_equals_loops():
    """Each pixel of the definition on its own; two objects, one at the image's corner."""
    rng = np.random.default_rng(5)
    inside = np.zeros((17, 23), bool)
    inside[:5, :7] = inside[9:14, 12:15] = True
    values = np.clip(0.6 * inside + 0.4 * rng.random(inside.shape), 0, 1)
    error = np.abs(values - inside)
    objects = np.argwhere(inside)

    def nearest(y, x):
        distances = np.hypot(*(objects - (y, x)).T)
        return distances.min(), {tuple(o) for o in objects[distances == distances.min()]}

    true = false = 0.0
    ambiguous = 0
    for y, x in np.ndindex(inside.shape):
        if not inside[y, x]:
            false += error[y, x] * (2 - math.exp(math.log(0.5) / 5 * nearest(y, x)[0]))
            continue
        smooth = 0.0
        total = sum(math.exp(-(dy * dy + dx * dx) / 50) for dy in range(-3, 4) for dx in range(-3, 4))
        for dy, dx in np.ndindex(7, 7):
            at = (y + dy - 3, x + dx - 3)
            if 0 <= at[0] < 17 and 0 <= at[1] < 23:
                candidates = nearest(*at)[1]
                ambiguous += len(candidates) > 1
                smooth += math.exp(-((dy - 3) ** 2 + (dx - 3) ** 2) / 50) / total * error[min(candidates)]
        true += 1 - min(error[y, x], smooth)
    assert not ambiguous  # so that any nearest pixel is the nearest
    recall, precision = true / inside.sum(), true / (true + false)
    assert weighted_f(values, inside) == pytest.approx(2 * recall * precision / (recall + precision), rel=1e-12)
    assert {weighted_f(values.copy(), inside.copy()) for _ in range(100)} == {weighted_f(values, inside)}


def test_max_f_of_means_is_another_metric():
    """Two maps of two levels each: the F of mean precision and recall is not the mean F."""
    both, means = SaliencyScores(), []
    for rows, columns in ((4, 8), (2, 10)):
        mask = np.zeros((10, 10), np.uint8)
        mask[:4] = 1  # 40 pixels
        values = np.zeros((10, 10), np.float32)
        values[:rows, :columns] = 1
        both.add(values, mask)
        precision, recall = 1, rows * columns / 40
        means.append((precision, recall, 1.3 * precision * recall / (0.3 * precision + recall)))
    precision, recall, f = np.mean(means, 0)
    assert both.results()["max_f"] == pytest.approx(f)
    assert both.results()["max_f_of_means"] == pytest.approx(1.3 * precision * recall / (0.3 * precision + recall))


def test_means_and_merge():
    both = SaliencyScores()
    halves = [SaliencyScores(), SaliencyScores()]
    f_curves = []
    for seed, half in enumerate(halves):
        values, mask = made(seed)
        both.add(values, mask)
        half.add(values, mask)
        levels = (values * 255).astype(np.float64).round()
        f_curves.append(curves((levels - levels.min()) / (levels.max() - levels.min()), mask > 0).f)
    assert both.results()["max_f"] == pytest.approx(np.mean(f_curves, 0).max())
    for name in ("mae", "s_measure", "iou", "mean_f", "adaptive_f", "weighted_f", "mean_e"):
        assert both.results()[name] == pytest.approx(np.mean([half.results()[name] for half in halves]))
    halves[0].merge(halves[1])
    assert halves[0].results() == both.results()
    assert halves[0].intervals() == both.intervals()
    assert both.images == 2


def test_intervals_of_means():
    assert SaliencyScores().intervals() == {}
    moments, values = Moments((2,)), np.random.default_rng(0).random((7, 2))
    for row in values:
        moments.add(row)
    assert moments.mean == pytest.approx(values.mean(0))
    assert moments.variance == pytest.approx(values.var(0, ddof=1))
    # Student's t with 6 degrees of freedom: 2.4469.
    assert half_width(0.04, 7) == pytest.approx(2.446912 * 0.2 / math.sqrt(7))
    same = Moments()
    for _ in range(3):
        same.add(0.1)
    assert same.variance == pytest.approx(0, abs=1e-15)


def test_intervals_agree_with_a_bootstrap():
    """Of maps from good to bad: half widths within a fifth of those that resampled images give."""
    rng = np.random.default_rng(0)
    alone = []
    for seed in range(60):
        clear, mask = made(seed, (24, 41))
        clear = cv2.GaussianBlur(clear, (0, 0), 1 + 3 * rng.random())
        share = rng.random()
        alone.append(SaliencyScores())
        alone[-1].add((share * clear + (1 - share) * rng.random(clear.shape)).astype(np.float32), mask)

    def merged(chosen):
        scores = SaliencyScores()
        for i in chosen:
            scores.merge(alone[i])
        return scores

    results, intervals = merged(range(60)).results(), merged(range(60)).intervals()
    drawn = [merged(rng.integers(0, 60, 60)).results() for _ in range(200)]
    assert list(intervals) == list(results)
    for name, (low, high) in intervals.items():
        assert (low + high) / 2 == pytest.approx(results[name])
        # 2.001: Student's t with 59 degrees of freedom.
        assert (high - low) / 2 == pytest.approx(2.001 * np.std([one[name] for one in drawn]), rel=0.2)


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
    soft = np.full((8, 8), 0.25)
    assert adaptive_f(soft, nothing) == weighted_f(soft, nothing) == 0
    assert adaptive_f(np.ones((8, 8)), everything) == 1
    assert weighted_f(np.ones((8, 8)), everything) == pytest.approx(1)
    # The E-measure of a cut map is then the fraction of pixels that are right, of one pixel less.
    assert curves(soft, nothing).e[[0, -1]] == pytest.approx([64 / 63, 0])
    assert curves(soft, everything).e[[0, -1]] == pytest.approx([0, 64 / 63])


def test_only_iou_uses_unstretched_maps():
    """A pale map of the right shape is perfect when stretched, and empty at the threshold of training."""
    _, mask = made(0)
    found = scores(0.4 * (mask > 0), mask)
    assert found["max_f"] == 1
    assert found["mae"] == 0
    assert found["iou"] == 0


def test_noted_values_of_py_sod_metrics():
    """pysodmetrics 1.6.2 forbids the numpy of today, so the tests use its noted values."""
    names = ("max_f", "mean_f", "mae", "s_measure", "adaptive_f", "weighted_f", "max_e", "mean_e", "max_f_of_means")
    noted = [
        (0.374101, 0.239127, 0.444913, 0.416620, 0.168968, 0.236011, 0.807878, 0.377326, 0.374101),
        (0.287483, 0.222366, 0.435973, 0.415831, 0.195876, 0.233563, 0.796444, 0.375511, 0.287483),
        (0.419573, 0.251645, 0.443918, 0.416324, 0.121084, 0.238627, 0.815878, 0.381444, 0.419573),
    ]
    for seed, values in enumerate(noted):
        clear, mask = made(seed)
        noise = np.random.default_rng(100 + seed).random(clear.shape)
        found = scores(0.25 * clear + 0.75 * noise, mask)
        assert [found[name] for name in names] == pytest.approx(values, abs=1e-6)


def test_noise_is_at_chance():
    mask = np.zeros((200, 300), np.uint8)
    mask[50:110, 60:260] = 1  # a fifth
    found = scores(np.random.default_rng(0).random(mask.shape), mask)
    assert found["mae"] == pytest.approx(0.5, abs=0.01)
    assert found["max_f"] == pytest.approx(1.3 * 0.2 / (0.3 * 0.2 + 1), abs=0.005)  # all of the image
    assert found["iou"] == pytest.approx(0.1 / 0.6, abs=0.01)  # half of everything


def photograph_like(seed):
    """A map and a mask of 300 × 400 px with objects that touch the border, are small, or nearly fill the image."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.random((300, 400)), (0, 0), 25)
    mask = (field > np.quantile(field, (0.98, 0.75, 0.1)[seed % 3])).astype(np.uint8) * 255
    noise = cv2.GaussianBlur(rng.random((300, 400)), (0, 0), 6)
    soft = cv2.GaussianBlur(mask / 255, (0, 0), 12) + 4 * (noise - noise.mean())
    return ((soft - soft.min()) / (soft.max() - soft.min())).astype(np.float32), mask


@pytest.mark.filterwarnings("ignore:This class will be removed")
@pytest.mark.parametrize("images", [[made(seed) for seed in range(5)], [photograph_like(seed) for seed in range(6)]])
def test_agrees_with_py_sod_metrics(images):
    """Runs if it is installed: ``pip install --no-deps pysodmetrics`` (it forbids the numpy of today, but runs)."""
    library = pytest.importorskip("py_sod_metrics")
    f, mae, s, e, w = (
        library.Fmeasure(beta=0.3),
        library.MAE(),
        library.Smeasure(),
        library.Emeasure(),
        library.WeightedFmeasure(beta=1),
    )
    ours = SaliencyScores()
    for values, mask in images:
        ours.add(values, mask)
        for metric in (f, mae, s, e, w):
            metric.step((values * 255).round().astype(np.uint8), mask)
    of_f, of_e = f.get_results(), e.get_results()["em"]["curve"]
    precision, recall = of_f["pr"]["p"], of_f["pr"]["r"]
    expected = {
        "max_f": of_f["fm"]["curve"].max(),
        "max_f_of_means": (1.3 * precision * recall / (0.3 * precision + recall + 1e-300)).max(),
        "mean_f": of_f["fm"]["curve"].mean(),
        "adaptive_f": of_f["fm"]["adp"],
        "weighted_f": w.get_results()["wfm"],
        "max_e": of_e.max(),
        "mean_e": of_e.mean(),
        "s_measure": s.get_results()["sm"],
        "mae": mae.get_results()["mae"],
    }
    found = ours.results()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
