"""VOC detection: fine-tune Faster R-CNN on PASCAL VOC."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from castlit.evaluation.detection.detectors import faster_rcnn_c4, faster_rcnn_fpn
from castlit.evaluation.detection.fine_tune import fine_tune
from castlit.evaluation.detection.records import choose_classes
from castlit.evaluation.detection.scores import average_precision
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.detection.voc_layout import read_voc
from castlit.evaluation.voc07.lists import VOC_CLASSES
from castlit.evaluation.weights_digest import weights_digest
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results
from castlit.utils.validation import as_list, require_choice

_CAST = "Selvaraju et al., CVPR 2021 (a digest of its tables), unverified"
_LATER = "R50 pretrained on COCO for 800 epochs, as the papers after CAST report it"

PUBLISHED = [
    PublishedRow("MoCo-COCO", {"AP": 47.5}, _CAST),
    PublishedRow("CAST", {"AP": 54.2}, _CAST),
    PublishedRow("MoCo v2, 800 epochs", {"AP": 54.7}, _LATER),
    PublishedRow("DenseCL, 800 epochs", {"AP": 56.7}, _LATER),
]

SCHEDULE = DetectorSettings(iterations=24_000, drops=(18_000, 22_000), warmup=100, min_size=tuple(range(480, 801, 32)))
"""He et al., CVPR 2020, section 4.2."""

DETECTORS = {"c4": faster_rcnn_c4, "fpn": faster_rcnn_fpn}


def evaluate_voc_detection(
    backbone: nn.Module,
    output: Path,
    name: str,
    seed: int,
    root: str | Path | None,
    architecture: str = "c4",
    train: Sequence[str] = ("VOC2007/trainval", "VOC2012/trainval"),
    test: Sequence[str] = ("VOC2007/test",),
    classes: str | Sequence[str] = "all",
    names: Sequence[str] = tuple(VOC_CLASSES),
    **settings: Any,  # noqa: ANN401
) -> Results:
    """Fine-tune Faster R-CNN on VOC 07+12 and test it on VOC 2007 (He et al., CVPR 2020, section 4.2).

    Nothing is frozen, and batch norms use the images of all processes. Objects marked difficult are trained on. The
    test ignores them like COCO's crowds: a detection of one, or of a part of one, counts neither as right nor as wrong.

    Args:
        backbone: A ResNet.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of all random numbers.
        root: ``VOCdevkit``.
        architecture: ``"c4"``, the paper's; or ``"fpn"``, a feature pyramid.
        train: Splits to train on: a folder of ``root``, and a list in its ``ImageSets/Main``.
        test: Splits to test on.
        classes: ``"all"``, ``"present"`` (those in both splits), or names.
        names: All names that annotations may have; VOC's unless the data are your own in its layout.
        **settings: Fields of :class:`castlit.evaluation.detection.DetectorSettings` that differ from ``SCHEDULE``:
            24,000 iterations with drops after 18,000 and 22,000. Other iterations scale the drops.

    Returns:
        ``AP``, ``AP50`` and ``AP75`` in [0, 100], see :func:`castlit.evaluation.detection.scores.average_precision`.

    Raises:
        InputError: An argument is unknown or out of range, the backbone is no ResNet, or the data are not VOC's.
    """
    require_choice("protocol.architecture", architecture, DETECTORS)
    chosen = SCHEDULE.override(settings)
    if architecture == "fpn":
        chosen.require_pyramid_anchors()
    train, test = as_list(train), as_list(test)
    annotations = choose_classes(read_voc(root, train, test, names), classes, "+".join(train), "+".join(test))
    identity = {
        "protocol": "voc_detection",
        "checkpoint": name,
        "weights": weights_digest(backbone),
        "architecture": architecture,
    }
    detector = DETECTORS[architecture](backbone, len(annotations.classes), chosen, name)
    detected = fine_tune(detector, annotations, chosen, seed, output, identity)
    return average_precision(annotations.test, detected, len(annotations.classes))
