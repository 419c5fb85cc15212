"""The protocol ``linear``: a linear classifier on frozen features."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from castlit.evaluation.probing.classifier_module import Classifier, Recipe
from castlit.evaluation.probing.data import ProbeData
from castlit.evaluation.probing.labelled import balanced_subset, open_labelled
from castlit.evaluation.training import fit_and_test
from castlit.evaluation.weights_digest import weights_digest
from castlit.reporting.results import Results
from castlit.utils.lightning import pl
from castlit.utils.validation import as_list, require_int, require_number


def evaluate_linear(
    backbone: nn.Module,
    output: Path,
    name: str,
    seed: int,
    root: str | Path | None = None,
    labels: float = 1.0,
    epochs: int = 100,
    lr: float = 30.0,
    backbone_lr: float = 0.0,
    drops: Sequence[int] | int = (60, 80),
    drop_factor: float = 0.1,
    weight_decay: float = 0.0,
    batch_size: int = 256,
    size: int | None = None,
    resize: int | None = None,
    train_count: int = 4096,
    test_count: int = 1000,
    workers: int | None = None,
    resume: str | None = None,
    trainer: Callable[..., pl.Trainer] = pl.Trainer,
    callbacks: Mapping[str, Any] | None = None,
    logger: Mapping[str, Any] | None = None,
) -> Results:
    """Train a linear classifier on a frozen backbone's pooled features (He et al., CVPR 2020, section 4.1).

    The defaults are the paper's schedule.

    Args:
        backbone: Maps normalised images to a feature map.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of order, crops and the classifier's initial weights.
        root: Holds ``train/<class>`` and ``val/<class>``; None: the built-in scenes.
        labels: Fraction of the training images to use, balanced over the classes; in (0, 1].
        epochs: Passes over these.
        lr: The classifier's learning rate.
        backbone_lr: The backbone's learning rate; 0 freezes it.
        drops: Epochs after which the learning rates are multiplied by ``drop_factor``.
        drop_factor: Factor of the learning rates at each drop.
        weight_decay: Of all trained parameters.
        batch_size: Images per step, over all processes.
        size: Side of the network's input in pixels; None: 224, or 64 for scenes.
        resize: Length of the short side before the test's central crop; None: 8/7 of ``size``, or the full scene.
        train_count: Scenes to train on.
        test_count: Scenes to test on.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        resume: None, ``"last"``, or a checkpoint's path.
        trainer: Lightning's ``Trainer`` with the user's settings.
        callbacks: By name, see :func:`castlit.evaluation.training.fit_and_test`.
        logger: By name, likewise.

    Returns:
        ``top1`` and ``top5``, in [0, 100].

    Raises:
        InputError: A number is out of range, a split is missing, or the checkpoint to resume from is another run's.
    """
    require_int("protocol.epochs", epochs, 1)
    for key, value in (("lr", lr), ("drop_factor", drop_factor)):
        require_number(f"protocol.{key}", value, above=0)
    for key, value in (("backbone_lr", backbone_lr), ("weight_decay", weight_decay)):
        require_number(f"protocol.{key}", value, 0)
    require_int("protocol.batch_size", batch_size, 1)
    dropped = tuple(sorted(require_int("protocol.drops", drop, 0) for drop in as_list(drops)))
    if workers is not None:
        require_int("protocol.workers", workers, 0)
    data = open_labelled(root, train_count, test_count)
    size, resize = data.input_sizes(size, resize)
    chosen = balanced_subset(data.train_labels, labels)
    recipe = Recipe(epochs, lr, backbone_lr, dropped, drop_factor, weight_decay=weight_decay)
    identity = {
        "protocol": "linear" if recipe.backbone_lr == 0 else "finetune",
        "checkpoint": name,
        "weights": weights_digest(backbone),
        "seed": seed,
        "classes": data.classes,
        "images": len(chosen),
        "size": size,
        "batch_size": batch_size,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in recipe._asdict().items()},
    }
    torch.manual_seed(seed)
    classifier = Classifier(backbone, len(data.classes), recipe, identity)
    batches = ProbeData(data.train, data.val, chosen, size, resize, batch_size, seed, workers)
    fit_and_test(classifier, batches, output, {"max_epochs": recipe.epochs}, trainer, callbacks, logger, resume)
    return {"top1": classifier.top1, "top5": classifier.top5}
