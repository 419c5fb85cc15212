"""The protocol ``backgrounds``: accuracy with another background, or none."""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from castlit.data.io.folders import require_folder
from castlit.data.io.masks import MaskKind
from castlit.evaluation.backgrounds.head import LinearHead, read_head, read_mapping
from castlit.evaluation.backgrounds.make import make_backgrounds
from castlit.evaluation.backgrounds.variants import VARIANTS
from castlit.evaluation.frozen import FrozenFeatures, as_linear, class_names, linear_probe, read_class_folders
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

_DIGEST = "ImageNet-9, Selvaraju et al., CVPR 2021 (unverified)"
_FIVE = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg")
PUBLISHED = [
    PublishedRow("MoCo-COCO", dict(zip(_FIVE, (72.62, 45.75, 30.44, 26.86, 30.42), strict=True)), _DIGEST),
    PublishedRow("CAST", dict(zip(_FIVE, (77.33, 54.42, 39.93, 37.46, 43.26), strict=True)), _DIGEST),
    PublishedRow(
        "supervised ResNet-50",
        {"original": 95.6, "mixed_same": 86.2, "mixed_rand": 78.9, "bg_gap": 7.3},
        "ImageNet-9, Xiao et al., ICLR 2021",
    ),
]


def evaluate_backgrounds(
    backbone: nn.Module,
    device: torch.device,
    output: Path,
    seed: int,
    root: str | Path | None = None,
    make_from: str | Path | None = None,
    made: str | Path | None = None,
    val_share: float = 0.3,
    train: str | Path | None = None,
    head: str | Path | None = None,
    mapping: str | Path | None = None,
    strength: float = 0.1,
    size: int = 224,
    resize: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    cache: str | Path | None = None,
    mask_kind: MaskKind = "auto",
) -> Results:
    """Classify the variants of the Backgrounds Challenge (Xiao et al., ICLR 2021), or variants of your own images.

    Args:
        backbone: Maps normalised images to a feature map; in evaluation mode, on its device.
        device: The backbone's device.
        output: The run's folder.
        seed: Seed of the split and the backgrounds, with ``make_from``.
        root: Holds the variants' folders, each with ``val/<class>``; missing ones are skipped with a warning.
        make_from: Instead of ``root``: images and masks to make variants from, see :func:`make_backgrounds`.
        made: Where to make them; None: ``backgrounds`` in ``output``.
        val_share: Fraction of the images to test on, with ``make_from``.
        train: Images by class to train the head on; None: ``original/train``.
        head: Instead of training one: a file with a linear layer for the pooled features.
        mapping: A JSON file with the class of each output of ``head`` (the challenge's ``in_to_in9.json``); an output
            without a class is a wrong answer.
        strength: Inverse L2 penalty of the trained head: logistic regression on standardised features.
        size: Side of the network's input in pixels.
        resize: Length of the short side before the central crop; None: 8/7 of ``size``.
        batch_size: Images at a time.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        cache: Folder for features; None: ``features`` in ``output``.
        mask_kind: With ``make_from``, what the pixels of masks mean, see :func:`castlit.data.io.masks.decode_mask`.

    Returns:
        Accuracy on each variant, and ``bg_gap`` = mixed_same − mixed_rand; in [0, 100].

    Raises:
        InputError: The layout is wrong, classes differ, or head and mapping do not fit.
        FileNotFoundError: No such folder.
    """
    if (root is None) == (make_from is None):
        raise InputError(
            "give data.root=, the folder of the variants, or data.make_from=, images and masks to make them from"
        )
    if mapping is not None and head is None:
        raise InputError("protocol.mapping describes the outputs of protocol.head: give protocol.head, too")
    if make_from is not None:
        target = output / "backgrounds" if made is None else made
        folder = make_backgrounds(make_from, target, size, val_share, seed, workers=workers, mask_kind=mask_kind)
        resize = size if resize is None else resize  # they have this size already
    else:
        folder = require_folder("data.root", str(root), "the variants original, mixed_same, ...")
    there = [name for name in VARIANTS if (folder / name / "val").is_dir()]
    if not there:
        raise InputError(f"{folder} holds no variant: there must be original/val/<class>, mixed_same/val/<class>, ...")
    missing = [name for name in VARIANTS if name not in there]
    if missing:
        logger.warning("%s lacks %s: skipped", folder, ", ".join(missing))
    features = FrozenFeatures(
        backbone, device, size, resize, 1, batch_size, workers, output / "features" if cache is None else cache
    )
    classes = class_names(folder / there[0] / "val")
    layer, class_of = None, None
    if head is None:
        layer = _trained(features, folder, train, classes, strength)
    results: Results = {}
    for name in there:
        images, _ = read_class_folders(folder / name / "val", "data.root", classes)
        found = features(images, f"Features of {name}")
        if layer is None:
            assert head is not None
            layer = read_head(head, found.shape[1])
            class_of = _class_of(layer, mapping, len(classes))
        answers = layer.predict(found)
        results[name] = 100 * float(((answers if class_of is None else class_of[answers]) == images.labels).mean())
    if "mixed_same" in results and "mixed_rand" in results:
        results["bg_gap"] = results["mixed_same"] - results["mixed_rand"]
    return results


def _trained(
    features: FrozenFeatures, folder: Path, train: str | Path | None, classes: list[str], strength: float
) -> LinearHead:
    place = folder / "original" / "train" if train is None else Path(train).expanduser()
    if not place.is_dir():
        raise InputError(f"{place}: no such folder to train a head on; give protocol.train=, or protocol.head=")
    images, _ = read_class_folders(place, "protocol.train", classes)
    assert images.labels is not None
    weight, bias = as_linear(linear_probe(features(images, "Features to train on"), images.labels, strength))
    return LinearHead(np.float32(weight), np.float32(bias))


def _class_of(layer: LinearHead, mapping: str | Path | None, classes: int) -> NDArray[np.int64] | None:
    outputs = len(layer.weight)
    if mapping is not None:
        return read_mapping(mapping, outputs, classes)
    if outputs != classes:
        raise InputError(
            f"the head has {outputs} outputs for {classes} classes: give protocol.mapping=in_to_in9.json, the "
            "class of each output"
        )
    return None
