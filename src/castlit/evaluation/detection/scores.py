"""COCO's average precision, by faster-coco-eval."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from castlit.evaluation.detection.records import Annotated
from castlit.reporting.results import Results
from castlit.utils.validation import InputError

RunLengths = dict[str, Any]
"""A mask as COCO's compressed run lengths."""


class Detected(NamedTuple):
    """The detections in an image, n of them."""

    number: int
    """The image's number."""
    boxes: NDArray[np.float32]
    """(n, 4): left, top, right, bottom in pixels."""
    scores: NDArray[np.float32]
    """(n,): confidence."""
    labels: NDArray[np.int64]
    """(n,): classes, from 1."""
    masks: list[RunLengths] | None = None
    """(n,); None for a detector that predicts none."""


def average_precision(
    truth: Sequence[Annotated], detected: Iterable[Detected], classes: int, masks: bool = False
) -> Results:
    """Average precision as COCO defines it: the mean over classes of the precision at 101 recalls.

    The published numbers on VOC use the same thresholds, but the rule of VOC 2007 (11 recalls).

    Args:
        truth: All test images, with their objects. Ignored objects are handled as COCO's crowds: a detection of one, or
            of a part of one, counts neither as right nor as wrong.
        detected: The detections; the 100 most confident ones of an image count.
        classes: Number of classes. The mean leaves out classes without objects.
        masks: Whether overlap is measured between masks rather than boxes.

    Returns:
        ``AP`` (the mean over the overlaps 0.50, 0.55, … 0.95), ``AP50`` and ``AP75``, each in [0, 100].

    Raises:
        InputError: There is nothing to find: no image has an object that counts. The library would give -1.
    """
    if all(image.ignored.all() for image in truth):
        raise InputError(
            "average precision needs an object to find: all of the test images' are ignored, or there are none"
        )
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
    """Return the ground truth in COCO's format."""
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
    """Discard the table that the library prints."""
