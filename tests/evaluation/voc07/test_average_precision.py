import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from castlit.evaluation.voc07 import average_precision, eleven_point_precision
from castlit.utils.validation import InputError

MEASURES = [average_precision, eleven_point_precision]


@pytest.mark.parametrize("measure", MEASURES)
def test_perfect_ranking(measure):
    truth = np.array([True, False, True, False, False])
    assert measure(truth, np.array([0.9, 0.2, 0.8, 0.1, 0.3])) == 100


def test_ranking_by_hand():
    # Found in the order + - + -: precision 1 at recall 1/2, then 2/3 at recall 1.
    truth, scores = np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0])
    assert average_precision(truth, scores) == pytest.approx(100 * (1 / 2 * 1 + 1 / 2 * 2 / 3))
    # Recall 0 to 0.5: six points at precision 1; 0.6 to 1: five at 2/3.
    assert eleven_point_precision(truth, scores) == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)


def test_worst_ranking():
    truth, scores = np.array([False, False, False, True]), np.array([4.0, 3.0, 2.0, 1.0])
    assert average_precision(truth, scores) == pytest.approx(25)
    assert eleven_point_precision(truth, scores) == pytest.approx(25)


@pytest.mark.parametrize("measure", MEASURES)
def test_random_scores_are_at_chance(measure):
    rng = np.random.default_rng(0)
    truth = rng.random(40_000) < 0.1
    assert measure(truth, rng.random(40_000)) == pytest.approx(10, abs=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30))
def test_agrees_with_loops(pairs):
    truth, scores = np.array([t for t, _ in pairs]), np.array([float(s) for _, s in pairs])
    if not truth.any():
        return
    recalls, precisions = [], []
    for threshold in sorted(set(scores), reverse=True):
        found = scores >= threshold
        recalls.append((found & truth).sum() / truth.sum())
        precisions.append((found & truth).sum() / found.sum())
    stepped = sum(
        (recall - before) * precision
        for recall, before, precision in zip(recalls, [0, *recalls], precisions, strict=False)
    )
    assert average_precision(truth, scores) == pytest.approx(100 * stepped)
    assert average_precision(truth, scores) == pytest.approx(100 * average_precision_score(truth, scores))
    best = [max(p for r, p in zip(recalls, precisions, strict=True) if 10 * r >= t - 1e-6) for t in range(11)]
    assert eleven_point_precision(truth, scores) == pytest.approx(100 * sum(best) / 11)


@pytest.mark.parametrize("measure", MEASURES)
def test_no_positives(measure):
    with pytest.raises(InputError, match="at least one positive"):
        measure(np.zeros(3, bool), np.arange(3.0))


@pytest.mark.parametrize("measure", [average_precision, eleven_point_precision])
@pytest.mark.parametrize(
    ("truth", "scores", "told"),
    [
        ([True, False], [float("nan"), 1.0], "finite scores"),
        ([True, False], [float("inf"), 1.0], "finite scores"),
        ([1, -1], [0.5, 1.0], "booleans"),  # VOC's labels
        ([True, False], [0.5], "scores"),
    ],
)
def test_no_ranking(measure, truth, scores, told):
    with pytest.raises(InputError, match=told):
        measure(np.array(truth), np.array(scores))
