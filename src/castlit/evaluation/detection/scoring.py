"""COCO's average precision, by faster-coco-eval."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from castlit.evaluation.detection.records import Annotated
from castlit.reporting.results import Results

Counts = dict[str, Any]
"""A mask as COCO's compressed run lengths."""


class Detected(NamedTuple):
    """What a detector found in an image, n objects."""

    number: int
    """Of the image."""
    boxes: NDArray[np.float32]
    """(n, 4): left, top, right, bottom in pixels."""
    scores: NDArray[np.float32]
    """(n,): how sure it is."""
    labels: NDArray[np.int64]
    """(n,): classes, from 1."""
    masks: list[Counts] | None = None
    """(n,); None of a detector that gives none."""


def average_precision(
    truth: Sequence[Annotated], detected: Iterable[Detected], classes: int, masks: bool = False
) -> Results:
    """Average precision as COCO defines it: the mean over classes of the precision at 101 recalls.

    The published figures on VOC are of the same thresholds, but by the rule of VOC 2007 (11 recalls).

    Args:
        truth: All images of the test, with their objects. Ignored ones are COCO's crowds: to find them, or parts of
            them, is neither right nor wrong.
        detected: What was found; the 100 surest objects of an image count.
        classes: How many. One without an object to find takes no part in the mean.
        masks: Whether overlap is that of masks, not of boxes.

    Returns:
        ``AP`` (the mean over the overlaps 0.50, 0.55, ... 0.95), ``AP50`` and ``AP75``, each in [0, 100].
    """
    kind = "segm" if masks else "bbox"
    ground = COCO(_dataset(truth, classes, masks))
    found = [row for one in detected for row in _rows(one, masks)]
    if not found:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    evaluation = COCOeval_faster(ground, ground.loadRes(found), kind, print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {name: 100 * float(evaluation.stats[place]) for place, name in enumerate(("AP", "AP50", "AP75"))}


def _dataset(truth: Sequence[Annotated], classes: int, masks: bool) -> dict[str, Any]:
    """The truth in COCO's form."""
    annotations: list[dict[str, Any]] = []
    for image in truth:
        for place in range(len(image.labels)):
            left, top, right, bottom = map(float, image.boxes[place])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.number,
                    "category_id": int(image.labels[place]),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(image.areas[place]),
                    "iscrowd": int(image.ignored[place]),
                }
            )
            if masks and image.segments is not None:
                annotations[-1]["segmentation"] = image.segments[place]
    return {
        "images": [{"id": image.number, "height": image.height, "width": image.width} for image in truth],
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": str(number + 1)} for number in range(classes)],
    }


def _rows(found: Detected, masks: bool) -> list[dict[str, Any]]:
    rows = []
    for place, (box, score, label) in enumerate(zip(found.boxes, found.scores, found.labels, strict=True)):
        left, top, right, bottom = map(float, box)
        row: dict[str, Any] = {"image_id": found.number, "category_id": int(label), "score": float(score)}
        if masks and found.masks is not None:
            row["segmentation"] = found.masks[place]
        else:
            row["bbox"] = [left, top, right - left, bottom - top]
        rows.append(row)
    return rows


def _silent(*words: object) -> None:
    """The library would print a table of its own."""
