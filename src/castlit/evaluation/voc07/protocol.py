"""The protocol ``voc07`` (Goyal et al., ICCV 2019): linear SVMs on frozen features of VOC 2007."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from castlit.evaluation.frozen import FrozenFeatures
from castlit.evaluation.voc07.lists import read_voc_lists
from castlit.evaluation.voc07.svm import COSTS, ClassResult, classify
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results
from castlit.utils.cores import available_cores
from castlit.utils.csv_cells import safe_cells
from castlit.utils.validation import InputError, as_list, require_choice, require_int

PUBLISHED = [
    PublishedRow("MoCo-COCO", {"mAP": 66.9}, "Selvaraju et al., CVPR 2021 (unverified)"),
    PublishedRow("CAST", {"mAP": 73.1}, "Selvaraju et al., CVPR 2021 (unverified)"),
]


class _Variant(NamedTuple):
    pool: int = 1
    costs: tuple[float, ...] = COSTS
    eleven_point: bool = False


VARIANTS = {
    "standard": _Variant(),
    "pool_2x2": _Variant(pool=2),
    "eleven_point": _Variant(eleven_point=True),
    "wide_costs": _Variant(costs=(0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)),
}
"""Variants in the literature: 2 x 2 pooled features (8192 numbers of a ResNet-50: averages over the four corners of its
7 x 7 cells, 4 x 4 each, sharing the middle row and column), VOC 2007's rule for average precision, more costs."""


def evaluate_voc07(
    backbone: nn.Module,
    device: torch.device,
    output: Path,
    root: str | Path | None,
    variant: str | Sequence[str] = "standard",
    size: int = 224,
    resize: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    processes: int | None = None,
    cache: str | Path | None = None,
) -> Results:
    """Classify VOC2007's test images by linear SVMs on frozen, L2-normalised features.

    Args:
        backbone: Maps normalised images to a feature map; in evaluation mode, on its device.
        device: The backbone's device.
        output: Gets ``voc07.csv``: each class with its metrics and the chosen cost.
        root: ``VOCdevkit``, as unpacked.
        variant: One of VARIANTS, or several.
        size: Side of the network's input in pixels.
        resize: Length of the short side before the central crop; None: 8/7 of ``size``.
        batch_size: Images at a time.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        processes: Processes that fit SVMs; None: one per core.
        cache: Folder for features; None: ``features`` in ``output``.

    Returns:
        ``mAP`` and ``AP/<class>``, in [0, 100].

    Raises:
        InputError: The layout is wrong, a variant is unknown, or a class has no positives.
    """
    if root is None:
        raise InputError("data.root must be given: add data.root=, the folder VOCdevkit")
    chosen = [VARIANTS[require_choice("protocol.variant", name, VARIANTS)] for name in as_list(variant)]
    train, test = read_voc_lists(root, "trainval"), read_voc_lists(root, "test")
    features = FrozenFeatures(
        backbone,
        device,
        size,
        resize,
        max((option.pool for option in chosen), default=1),
        batch_size,
        workers,
        output / "features" if cache is None else cache,
    )
    results = classify(
        (_normalised(features(train.images, "Features of trainval")), train.labels),
        (_normalised(features(test.images, "Features of test")), test.labels),
        train.classes,
        max((option.costs for option in chosen), key=len, default=COSTS),
        any(option.eleven_point for option in chosen),
        available_cores() if processes is None else require_int("protocol.processes", processes, 1),
    )
    _write(output / "voc07.csv", results)
    mean = float(np.mean([result.precision for result in results.values()]))
    return {"mAP": mean, **{f"AP/{name}": result.precision for name, result in results.items()}}


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)


def _write(file: Path, results: dict[str, ClassResult]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("class", *ClassResult._fields))
        writer.writerows(safe_cells((name, *result)) for name, result in results.items())
