"""Average precision on hand-made cases and against pycocotools."""

import json

import numpy as np
import pytest
from faster_coco_eval.core import mask as fast_mask

from castlit.evaluation.detection import Annotated, Detected, average_precision
from castlit.evaluation.detection.coco_layout import object_mask, read_coco
from castlit.utils.validation import InputError


def image(number, boxes, labels, ignored=None, size=(200, 200)):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ignored = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored, bool)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64)
    height, width = size
    return Annotated("", number, height, width, boxes, np.array(labels, np.int64), ~ignored, ignored, areas)


def found(number, boxes, labels, scores):
    return Detected(
        number, np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int64)
    )


A, B, C = [10, 10, 60, 60], [100, 100, 180, 150], [20, 120, 70, 190]


def test_perfect_detector():
    truth = [image(1, [A, B], [1, 2]), image(2, [C], [1]), image(3, [], [])]
    perfect = [found(t.number, t.boxes, t.labels, [1.0] * len(t.labels)) for t in truth]
    assert average_precision(truth, perfect, 2) == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100})


def test_no_detections():
    truth = [image(1, [A], [1])]
    nothing = {"AP": 0, "AP50": 0, "AP75": 0}
    assert average_precision(truth, [found(1, [], [], [])], 1) == nothing
    assert average_precision(truth, [], 1) == nothing
    assert average_precision(truth, [found(1, [A], [2], [1.0])], 2) == nothing  # the other class


@pytest.mark.parametrize("truth", [[], [image(1, [], [])], [image(1, [A], [1], [True]), image(2, [], [])]])
@pytest.mark.parametrize("detected", [[], [found(1, [A], [1], [1.0])]])
def test_nothing_to_find(truth, detected):
    with pytest.raises(InputError, match="average precision needs an object to find"):
        average_precision(truth, detected, 1)


def test_random_detector():
    rng = np.random.default_rng(0)
    truth, random = [], []
    for number in range(1, 31):
        corner = rng.uniform(0, 140, (3, 2))
        truth.append(image(number, np.hstack([corner, corner + rng.uniform(20, 60, (3, 2))]), rng.integers(1, 6, 3)))
        corner = rng.uniform(0, 140, (20, 2))
        boxes = np.hstack([corner, corner + rng.uniform(20, 60, (20, 2))])
        random.append(found(number, boxes, rng.integers(1, 6, 20), rng.random(20)))
    assert average_precision(truth, random, 5)["AP50"] < 3


def test_missed_objects_and_false_positive():
    truth = [image(1, [A, B], [1, 1])]
    # One of two at precision 1: of the 101 recalls 0, 0.01, ... 1, those up to 0.5 count, 51 of them.
    assert average_precision(truth, [found(1, [A], [1], [0.9])], 1)["AP50"] == pytest.approx(100 * 51 / 101)
    # A more confident false positive halves the precision.
    alarm = found(1, [A, C], [1, 1], [0.8, 0.9])
    assert average_precision(truth, [alarm], 1)["AP50"] == pytest.approx(100 * 51 / 101 / 2)
    # A less confident one changes nothing.
    late = found(1, [A, C], [1, 1], [0.9, 0.8])
    assert average_precision(truth, [late], 1)["AP50"] == pytest.approx(100 * 51 / 101)


def test_overlap_thresholds():
    truth = [image(1, [[0, 0, 100, 100]], [1])]
    close = found(1, [[0, 0, 100, 72]], [1], [1.0])  # overlap 0.72: five of ten thresholds
    assert average_precision(truth, [close], 1) == pytest.approx({"AP": 50, "AP50": 100, "AP75": 0})


def test_ignored_objects():
    truth = [image(1, [A, B], [1, 1], ignored=[False, True])]
    for boxes in ([A], [A, B], [[100, 100, 140, 150], A]):  # the last holds a part of the ignored one, the surest
        scores = np.linspace(0.9, 0.8, len(boxes))
        assert average_precision(truth, [found(1, boxes, [1] * len(boxes), scores)], 1)["AP"] == pytest.approx(100)


def test_class_without_objects():
    truth = [image(1, [A], [1])]
    both = found(1, [A, B], [1, 2], [0.9, 0.9])
    assert average_precision(truth, [both], 2)["AP"] == pytest.approx(100)


@pytest.mark.parametrize("masks", [False, True])
def test_agrees_with_pycocotools(mini, masks, capsys):
    """On real annotations with crowds; detections are shifted, missing or wrong."""
    reference = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    annotations = read_coco(mini)
    truth = annotations.test
    rng = np.random.default_rng(1)
    detections, rows = [], []
    file = mini / "annotations" / "instances_val2017.json"
    # The file's category ids, which have gaps.
    numbers = sorted(category["id"] for category in json.loads(file.read_text())["categories"])
    for record in truth:
        keep = np.flatnonzero(rng.random(len(record.labels)) < 0.8)
        boxes = record.boxes[keep] + rng.normal(0, 3, (len(keep), 4)).astype(np.float32)
        labels = np.where(rng.random(len(keep)) < 0.15, rng.integers(1, 81, len(keep)), record.labels[keep])
        scores = rng.random(len(keep)).astype(np.float32)
        shift = rng.integers(-3, 4, (len(keep), 2))
        cut = [
            np.roll(object_mask(record.segments[k], record.height, record.width), tuple(s), (0, 1))
            for k, s in zip(keep, shift, strict=True)
        ]
        runs = [fast_mask.encode(np.asfortranarray(mask)) for mask in cut]
        detections.append(Detected(record.number, boxes, scores, labels, runs))
        for box, score, label, run in zip(boxes, scores, labels, runs, strict=True):
            row = {"image_id": record.number, "category_id": numbers[label - 1], "score": float(score)}
            left, top, right, bottom = map(float, box)
            rows.append(
                {**row, **({"segmentation": run} if masks else {"bbox": [left, top, right - left, bottom - top]})}
            )
    ours = average_precision(truth, detections, len(annotations.classes), masks)
    ground = reference.COCO(str(file))
    evaluation = COCOeval(ground, ground.loadRes(rows), "segm" if masks else "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 10 < ours["AP"] < 90
    assert list(ours.values()) == pytest.approx(100 * evaluation.stats[:3], abs=1e-6)
