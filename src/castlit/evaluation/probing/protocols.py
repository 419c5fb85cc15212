"""The protocols ``linear``, ``finetune`` and ``knn``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from castlit.evaluation.frozen import FrozenFeatures
from castlit.evaluation.probing.classifier import Classifier, Recipe
from castlit.evaluation.probing.data import ProbeData
from castlit.evaluation.probing.labelled import balanced_subset, open_labelled
from castlit.evaluation.training import fit_and_test
from castlit.nn.nearest_neighbours import knn_accuracy
from castlit.reporting.results import Results
from castlit.utils.validation import InputError, as_list, require_int, require_number

_SIMILARITIES = 2**26  # at a time: 256 MiB


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

    Args:
        backbone: Maps normalised images to a feature map.
        output: The run's folder, for checkpoints and ``metrics.csv``.
        name: The checkpoint as typed.
        seed: Seed of order, crops and the classifier's first weights.
        root: Holds ``train/<class>`` and ``val/<class>``; None: the built-in scenes.
        labels: Share of the training images that is used, as many of each class; in (0, 1].
        epochs: Passes over these.
        lr: The classifier's rate.
        backbone_lr: The backbone's; 0 freezes it.
        drops: Epochs after which the rates fall ...
        drop_factor: ... by this factor.
        weight_decay: Of all that is trained.
        batch_size: Images in a step, of all processes together.
        size: Side of the network's input in pixels; None: 224, or 64 for scenes.
        resize: Length of the short side before the test's central crop; None: 8/7 of ``size``, or all of a scene.
        train_count: Scenes to train on.
        test_count: Scenes to test on.
        workers: Loader processes; None suits the machine.
        resume: None, ``"last"``, or a checkpoint's path.
        trainer: Lightning's ``Trainer`` with the user's settings.
        callbacks: By name; those that are partial get their paths in ``output``.
        logger: Likewise.

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
    falls = tuple(sorted(require_int("protocol.drops", drop, 0) for drop in as_list(drops)))
    if workers is not None:
        require_int("protocol.workers", workers, 0)
    data = open_labelled(root, train_count, test_count)
    size, resize = _sizes(size, resize, data.size, data.resize)
    chosen = balanced_subset(data.train_labels, labels)
    recipe = Recipe(epochs, lr, backbone_lr, falls, drop_factor, weight_decay=weight_decay)
    identity = {
        "protocol": "linear" if recipe.backbone_lr == 0 else "finetune",
        "checkpoint": name,
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


def evaluate_finetune(backbone: nn.Module, output: Path, name: str, seed: int, **settings: Any) -> Results:  # noqa: ANN401
    """Train backbone and classifier together on a share of the labels; all else as :func:`evaluate_linear`.

    Batch norms go on learning their statistics.

    Args:
        backbone: Maps normalised images to a feature map; a copy is trained.
        output: The run's folder.
        name: The checkpoint as typed.
        seed: As there.
        **settings: Those of :func:`evaluate_linear`, with ``backbone_lr`` > 0.

    Returns:
        ``top1`` and ``top5``, in [0, 100].

    Raises:
        InputError: As there; or the backbone would not be trained.
    """
    require_number("protocol.backbone_lr", settings.get("backbone_lr", 0.0), above=0)
    return evaluate_linear(backbone, output, name, seed, **settings)


def evaluate_knn(
    backbone: nn.Module,
    device: torch.device,
    output: Path,
    root: str | Path | None = None,
    k: Sequence[int] | int = (20, 200),
    temperature: float = 0.07,
    size: int | None = None,
    resize: int | None = None,
    train_count: int = 4096,
    test_count: int = 1000,
    batch_size: int = 64,
    workers: int | None = None,
    cache: str | Path | None = None,
) -> Results:
    """Classify test images by the weighted vote of the nearest training images (Wu et al., CVPR 2018).

    Args:
        backbone: Maps normalised images to a feature map; in evaluation mode, on its device.
        device: Where it is.
        output: The run's folder.
        root: As in :func:`evaluate_linear`, as the other arguments.
        k: How many neighbours vote; several give a figure each.
        temperature: T of the vote exp(cosine / T), > 0.
        size: As there.
        resize: As there.
        train_count: As there.
        test_count: As there.
        batch_size: Images at a time.
        workers: As there.
        cache: Folder that keeps features; None: ``features`` in ``output``.

    Returns:
        ``top1/k=<k>``, in [0, 100].

    Raises:
        InputError: As there.
    """
    counts = [require_int("protocol.k", value, 1) for value in as_list(k)]
    if not counts:
        raise InputError("protocol.k is empty: give a number of neighbours, such as 20")
    data = open_labelled(root, train_count, test_count)
    size, resize = _sizes(size, resize, data.size, data.resize)
    features = FrozenFeatures(
        backbone, device, size, resize, 1, batch_size, workers, output / "features" if cache is None else cache
    )
    bank = torch.from_numpy(features(data.train, "Features of train")), torch.from_numpy(data.train_labels)
    tested, labels = torch.from_numpy(features(data.val, "Features of val")), torch.from_numpy(data.val_labels)
    some = max(1, _SIMILARITIES // len(bank[0]))
    results: Results = {}
    for count in counts:
        parts = zip(torch.split(tested, some), torch.split(labels, some), strict=True)
        right = sum(knn_accuracy(x, y, bank, count, temperature) * len(y) for x, y in parts)
        results[f"top1/k={count}"] = 100 * right / len(labels)
    return results


def _sizes(size: int | None, resize: int | None, its_size: int, its_resize: int | None) -> tuple[int, int | None]:
    """The user's, or what suits the data; another size gets the usual margin around it, where there is one."""
    if size is None:
        return its_size, its_resize if resize is None else resize
    return size, (None if its_resize is None else size) if resize is None else resize
