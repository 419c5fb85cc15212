"""COCO instance segmentation: fine-tune Mask R-CNN on COCO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from castlit.evaluation.detection.coco_layout import read_coco
from castlit.evaluation.detection.detectors import mask_rcnn_fpn
from castlit.evaluation.detection.fine_tune import fine_tune
from castlit.evaluation.detection.records import choose_classes
from castlit.evaluation.detection.scores import average_precision
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.weights_digest import weights_digest
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results
from castlit.utils.validation import require_choice

_LATER = "R50 pretrained on COCO, as the papers after CAST report it"

PUBLISHED = [
    PublishedRow("MoCo v2, 800 epochs", {"box_AP": 38.5, "mask_AP": 34.8}, _LATER),
    PublishedRow("DenseCL, 800 epochs", {"box_AP": 39.6, "mask_AP": 35.7}, _LATER),
    PublishedRow("ORL", {"box_AP": 40.3, "mask_AP": 36.3}, _LATER),
    PublishedRow("SlotCon", {"box_AP": 41.0, "mask_AP": 37.0}, _LATER),
]

_1X = DetectorSettings(iterations=90_000, drops=(60_000, 80_000), warmup=1000, min_size=tuple(range(640, 801, 32)))

SCHEDULES = {"1x": _1X, "2x": _1X.override({"iterations": 180_000})}
"""He et al., CVPR 2020, section 4.2."""


def evaluate_coco_segmentation(
    backbone: nn.Module,
    output: Path,
    name: str,
    seed: int,
    root: str | Path | None,
    schedule: str = "1x",
    train: str = "train2017",
    test: str = "val2017",
    classes: str | Sequence[str] = "all",
    iterations: int | None = None,
    **settings: Any,  # noqa: ANN401
) -> Results:
    """Fine-tune Mask R-CNN with a feature pyramid on COCO (He et al., CVPR 2020, section 4.2).

    Nothing is frozen; batch norms, including those of the pyramid, use the images of all processes. Crowds are not
    learnt, and ignored in the test, as COCO does.

    Args:
        backbone: A ResNet.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of all random numbers.
        root: Holds ``annotations/instances_<split>.json``, and a folder of images for each split.
        schedule: ``"1x"``, 90,000 iterations with drops after 60,000 and 80,000; or ``"2x"``, twice as many.
        train: The split to train on.
        test: The split to test on.
        classes: ``"all"``, ``"present"`` (those in both splits), or names.
        iterations: None: the schedule's. Other iterations scale the drops.
        **settings: Fields of :class:`castlit.evaluation.detection.DetectorSettings` that differ from the schedule.

    Returns:
        ``box_AP``, ``box_AP50``, ``box_AP75`` and the same for ``mask``, in [0, 100], see
        :func:`castlit.evaluation.detection.scores.average_precision`.

    Raises:
        InputError: An argument is unknown or out of range, the backbone is no ResNet, or the data are not COCO's.
    """
    paper = SCHEDULES[require_choice("protocol.schedule", schedule, SCHEDULES)]
    chosen = paper.override({**settings, "iterations": paper.iterations if iterations is None else iterations})
    chosen.require_pyramid_anchors()
    annotations = choose_classes(read_coco(root, train, test), classes, train, test)
    identity = {"protocol": "coco_segmentation", "checkpoint": name, "weights": weights_digest(backbone)}
    detector = mask_rcnn_fpn(backbone, len(annotations.classes), chosen, name)
    detected = fine_tune(detector, annotations, chosen, seed, output, identity, masks=True)
    scores = {
        kind: average_precision(annotations.test, detected, len(annotations.classes), masks=kind == "mask")
        for kind in ("box", "mask")
    }
    return {f"{kind}_{metric}": value for kind, metrics in scores.items() for metric, value in metrics.items()}
