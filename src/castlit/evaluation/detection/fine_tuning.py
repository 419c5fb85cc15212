"""What the protocols of detection and of segmentation do alike: fine-tune a detector, and let it detect."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from castlit.evaluation.detection.data import DetectionData
from castlit.evaluation.detection.records import Annotations
from castlit.evaluation.detection.scoring import Detected
from castlit.evaluation.detection.training import DetectorTraining, Recipe
from castlit.evaluation.training import fit_and_test


def fine_tune(
    detector: GeneralizedRCNN,
    found: Annotations,
    recipe: Recipe,
    batch_size: int,
    seed: int,
    output: Path,
    told: Mapping[str, Any],
    masks: bool = False,
    workers: int | None = None,
    resume: str | None = None,
    trainer: Callable[..., pl.Trainer] = pl.Trainer,
    callbacks: Mapping[str, Any] | None = None,
    logger: Mapping[str, Any] | None = None,
) -> list[Detected]:
    """Fine-tune a detector, and say what it finds in the images of the test.

    Args:
        detector: One of torchvision's, with random heads.
        found: The images.
        recipe: How it is trained.
        batch_size: Images in a step, of all processes together.
        seed: Of the order of images, and of what is mirrored.
        output: The run's folder.
        told: What tells this run from others, beside what is given here: ``protocol``, ``checkpoint``, ...
        masks: Whether it learns and gives masks.
        workers: Loader processes; None: as many as help.
        resume: As :func:`castlit.evaluation.training.fit_and_test` takes it, and the rest too.
        trainer: As there.
        callbacks: As there.
        logger: As there.

    Raises:
        InputError: As there.
    """
    identity = {
        **told,
        "classes": found.classes,
        "images": len(found.train),
        "batch_size": batch_size,
        "seed": seed,
        **recipe._asdict(),
        "drops": list(recipe.drops),
    }
    training = DetectorTraining(detector, recipe, masks, identity)
    images = DetectionData(found.train, found.test, batch_size, seed, workers, masks)
    fit_and_test(training, images, output, {"max_steps": recipe.iterations}, trainer, callbacks, logger, resume)
    return training.detected
