"""VOC detection: fine-tune Faster R-CNN from a backbone on PASCAL VOC, and say how well it detects."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from castlit.evaluation.detection.detectors import ANCHORS, faster_rcnn_c4, faster_rcnn_fpn
from castlit.evaluation.detection.fine_tuning import fine_tune
from castlit.evaluation.detection.records import choose_classes
from castlit.evaluation.detection.scoring import average_precision
from castlit.evaluation.detection.settings import recipe_of, require_anchors, require_sizes
from castlit.evaluation.detection.voc_layout import read_voc
from castlit.evaluation.voc07.lists import VOC_CLASSES
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results
from castlit.utils.validation import as_list

_CAST = "Selvaraju et al., CVPR 2021 (a digest of its tables), unverified"
_LATER = "R50 pretrained on COCO for 800 epochs, as the papers after CAST report it"

PUBLISHED = [
    PublishedRow("MoCo-COCO", {"AP": 47.5}, _CAST),
    PublishedRow("CAST", {"AP": 54.2}, _CAST),
    PublishedRow("MoCo v2, 800 epochs", {"AP": 54.7}, _LATER),
    PublishedRow("DenseCL, 800 epochs", {"AP": 56.7}, _LATER),
]

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
    iterations: int = 24000,
    drops: Sequence[int] | None = None,
    warmup: int = 100,
    lr: float = 0.02,
    weight_decay: float = 1e-4,
    batch_size: int = 16,
    min_size: Sequence[int] = tuple(range(480, 801, 32)),
    max_size: int = 1333,
    anchors: Sequence[int] = ANCHORS,
    boxes: int = 512,
    proposals: int = 1000,
    workers: int | None = None,
    resume: str | None = None,
    trainer: Callable[..., pl.Trainer] = pl.Trainer,
    callbacks: Mapping[str, Any] | None = None,
    logger: Mapping[str, Any] | None = None,
) -> Results:
    """Fine-tune Faster R-CNN on VOC 07+12 and test it on VOC 2007 (He et al., CVPR 2020, section 4.2).

    Nothing is frozen, and batch norms work on the batch of all processes. Difficult objects are learnt, and ignored in
    the test as COCO's crowds are: to find them, or parts of them, is neither right nor wrong.

    Args:
        backbone: A ResNet.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of all draws.
        root: ``VOCdevkit``.
        architecture: ``"c4"``, the paper's; or ``"fpn"``, a feature pyramid.
        train: Splits to train on: a folder of ``root``, and a list in its ``ImageSets/Main``.
        test: Splits to test on.
        classes: ``"all"``, ``"present"`` (those that both splits have), or names.
        names: All names that annotations may have; others than VOC's for data of your own in its layout.
        iterations: Steps of training.
        drops: Steps after which the rate falls to a tenth; None: 3/4 and 11/12 of them, which is 18,000 and 22,000.
        warmup: Steps in which the rate rises.
        lr: The rate, for batches of 16.
        weight_decay: Of all but the norms.
        batch_size: Images in a step, of all processes together.
        min_size: Short sides in pixels, drawn for each training image; the last is the test's.
        max_size: Bound on the long side.
        anchors: Sides of the anchors in pixels; five of a pyramid.
        boxes: Proposals of each training image that the head learns from.
        proposals: Proposals of each image of the test that the head sees.
        workers: Loader processes; None: as many as help.
        resume: ``"last"`` goes on from ``checkpoints/last.ckpt`` in ``output``; or the path of a checkpoint.
        trainer: Lightning's ``Trainer``, with the user's settings.
        callbacks: By name, see :func:`castlit.evaluation.training.fit_and_test`.
        logger: By name, likewise.

    Returns:
        ``AP``, ``AP50`` and ``AP75`` in [0, 100], see :func:`castlit.evaluation.detection.scoring.average_precision`.

    Raises:
        InputError: An argument is out of range, the backbone is no ResNet, or the data are not VOC's.
    """
    sides = require_anchors(architecture, DETECTORS, anchors)
    recipe = recipe_of(iterations, drops, (3 / 4, 11 / 12), warmup, lr, weight_decay)
    sizes = require_sizes(min_size, max_size, batch_size, boxes, proposals, workers)
    train, test = as_list(train), as_list(test)
    found = choose_classes(read_voc(root, train, test, names), classes, "+".join(train), "+".join(test))
    detector = DETECTORS[architecture](backbone, len(found.classes), sizes, max_size, sides, boxes, proposals, name)
    told = {"protocol": "voc_detection", "checkpoint": name, "architecture": architecture}
    detected = fine_tune(
        detector, found, recipe, batch_size, seed, output, told, False, workers, resume, trainer, callbacks, logger
    )
    return average_precision(found.test, detected, len(found.classes))
