"""COCO instance segmentation: fine-tune Mask R-CNN from a backbone, and say how well it finds and cuts out objects."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from castlit.evaluation.detection.coco_layout import read_coco
from castlit.evaluation.detection.detectors import ANCHORS, mask_rcnn_fpn
from castlit.evaluation.detection.fine_tuning import fine_tune
from castlit.evaluation.detection.records import choose_classes
from castlit.evaluation.detection.scoring import average_precision
from castlit.evaluation.detection.settings import recipe_of, require_anchors, require_sizes
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

SCHEDULES = {"1x": 90_000, "2x": 180_000}
"""Iterations by name."""


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
    drops: Sequence[int] | None = None,
    warmup: int = 1000,
    lr: float = 0.02,
    weight_decay: float = 1e-4,
    batch_size: int = 16,
    min_size: Sequence[int] = tuple(range(640, 801, 32)),
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
    """Fine-tune Mask R-CNN with a feature pyramid on COCO (He et al., CVPR 2020, section 4.2).

    Nothing is frozen; batch norms, those of the pyramid too, work on the batch of all processes. Crowds are not learnt,
    and ignored in the test, as COCO does.

    Args:
        backbone: A ResNet.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of all draws.
        root: Holds ``annotations/instances_<split>.json``, and a folder of images for each split.
        schedule: ``"1x"``, 90,000 iterations, or ``"2x"``, 180,000.
        train: The split to train on.
        test: The split to test on.
        classes: ``"all"``, ``"present"`` (those that both splits have), or names.
        iterations: Other than the schedule's.
        drops: Steps after which the rate falls to a tenth; None: 2/3 and 8/9 of them (1x: 60,000 and 80,000).
        warmup: Steps in which the rate rises.
        lr: The rate, for batches of 16.
        weight_decay: Of all but the norms.
        batch_size: Images in a step, of all processes together.
        min_size: Short sides in pixels, drawn for each training image; the last is the test's.
        max_size: Bound on the long side.
        anchors: Sides of the anchors in pixels, of five levels.
        boxes: Proposals of each training image that the head learns from.
        proposals: Proposals of each image of the test that the head sees.
        workers: Loader processes; None: as many as help.
        resume: ``"last"`` goes on from ``checkpoints/last.ckpt`` in ``output``; or the path of a checkpoint.
        trainer: Lightning's ``Trainer``, with the user's settings.
        callbacks: By name, see :func:`castlit.evaluation.training.fit_and_test`.
        logger: By name, likewise.

    Returns:
        ``box_AP``, ``box_AP50``, ``box_AP75`` and the same for ``mask``, in [0, 100], see
        :func:`castlit.evaluation.detection.scoring.average_precision`.

    Raises:
        InputError: An argument is out of range, the backbone is no ResNet, or the data are not COCO's.
    """
    require_choice("protocol.schedule", schedule, SCHEDULES)
    sides = require_anchors("fpn", {"fpn": mask_rcnn_fpn}, anchors)
    steps = SCHEDULES[schedule] if iterations is None else iterations
    recipe = recipe_of(steps, drops, (2 / 3, 8 / 9), warmup, lr, weight_decay)
    sizes = require_sizes(min_size, max_size, batch_size, boxes, proposals, workers)
    found = choose_classes(read_coco(root, train, test), classes, train, test)
    detector = mask_rcnn_fpn(backbone, len(found.classes), sizes, max_size, sides, boxes, proposals, name)
    told = {"protocol": "coco_segmentation", "checkpoint": name}
    detected = fine_tune(
        detector, found, recipe, batch_size, seed, output, told, True, workers, resume, trainer, callbacks, logger
    )
    scores = {
        kind: average_precision(found.test, detected, len(found.classes), kind == "mask") for kind in ("box", "mask")
    }
    return {f"{kind}_{figure}": value for kind, of_kind in scores.items() for figure, value in of_kind.items()}
