"""Fine-tune a detector and collect its detections: the part that both detection protocols share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from castlit.evaluation.detection.data import DetectionData
from castlit.evaluation.detection.detector_module import MOMENTUM, DetectorTraining
from castlit.evaluation.detection.records import Annotations
from castlit.evaluation.detection.scores import Detected
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.training import fit_and_test


def fine_tune(
    detector: GeneralizedRCNN,
    annotations: Annotations,
    settings: DetectorSettings,
    seed: int,
    output: Path,
    identity: Mapping[str, Any],
    masks: bool = False,
) -> list[Detected]:
    """Fine-tune a detector and return its detections in the test images.

    Args:
        detector: One of torchvision's, with random heads.
        annotations: The images.
        settings: How it is trained.
        seed: Seed of the order of images and of mirroring.
        output: The run's folder.
        identity: What distinguishes this run from others, beside the other arguments: ``protocol``, ``checkpoint``, ...
        masks: Whether the detector learns and predicts masks.

    Raises:
        InputError: See :func:`castlit.evaluation.training.fit_and_test`.
    """
    identity = {
        **identity,
        "classes": annotations.classes,
        "images": len(annotations.train),
        "batch_size": settings.batch_size,
        "seed": seed,
        "iterations": settings.iterations,
        "drops": list(settings.drops),
        "lr": settings.lr,
        "warmup": settings.warmup,
        "momentum": MOMENTUM,
        "weight_decay": settings.weight_decay,
    }
    training = DetectorTraining(detector, settings, masks, identity)
    data = DetectionData(annotations.train, annotations.test, settings.batch_size, seed, settings.workers, masks)
    fit_and_test(
        training,
        data,
        output,
        {"max_steps": settings.iterations},
        settings.trainer,
        settings.callbacks,
        settings.logger,
        settings.resume,
    )
    return training.detected
