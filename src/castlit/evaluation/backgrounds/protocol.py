"""The protocol ``backgrounds``: accuracy when the background is another, or gone."""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from castlit.data.io.folders import require_folder
from castlit.evaluation.backgrounds.head import LinearHead, read_head, read_mapping
from castlit.evaluation.backgrounds.make import make_backgrounds
from castlit.evaluation.backgrounds.variants import VARIANTS
from castlit.evaluation.frozen import FrozenFeatures, class_names, read_class_folders
from castlit.evaluation.linear import linear_probe
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
) -> Results:
    """Classify the Backgrounds Challenge's variants, or those of one's own images.

    Args:
        backbone: Maps normalised images to a feature map; in evaluation mode, on its device.
        device: Where it is.
        output: The run's folder.
        seed: Of the split and the backgrounds, with ``make_from``.
        root: Holds the variants' folders, each with ``val/<class>``; those that are not there are left out, and told.
        make_from: Instead: images and masks to make them of, see :func:`make_backgrounds`.
        made: Where to make them; None: ``backgrounds`` in ``output``.
        val_share: Share of the images that is tested on, with ``make_from``.
        train: Images by class to train the head on; None: ``original/train``.
        head: Instead: a file with a linear layer for the pooled features.
        mapping: A JSON file that says which class each output of ``head`` means (the challenge's ``in_to_in9.json``);
            an output that means none of them is a wrong answer.
        strength: Inverse of the L2 penalty of the head that is trained: logistic regression on standardised features.
        size: Side of the network's input in pixels.
        resize: Length of the short side before the central crop; None: 8/7 of ``size``.
        batch_size: Images at a time.
        workers: Loader processes; None suits the machine.
        cache: Folder that keeps features; None: ``features`` in ``output``.

    Returns:
        Accuracy on each variant, and ``bg_gap`` = mixed_same − mixed_rand; in [0, 100].

    Raises:
        InputError: The layout is another, classes differ, or head and mapping do not fit.
        FileNotFoundError: No such folder.
    """
    if (root is None) == (make_from is None):
        raise InputError(
            "give data.root=, the folder of the variants, or data.make_from=, images and masks to make them of"
        )
    if mapping is not None and head is None:
        raise InputError("protocol.mapping is about the outputs of protocol.head: give that, too")
    if make_from is not None:
        folder = make_backgrounds(
            make_from, output / "backgrounds" if made is None else made, size, val_share, seed, workers=workers
        )
        resize = size if resize is None else resize  # they are cut to size already
    else:
        folder = require_folder("data.root", str(root), "the variants original, mixed_same, ...")
    there = [name for name in VARIANTS if (folder / name / "val").is_dir()]
    if not there:
        raise InputError(f"{folder} holds no variant: there must be original/val/<class>, mixed_same/val/<class>, ...")
    missing = [name for name in VARIANTS if name not in there]
    if missing:
        logger.warning("%s lacks %s: left out", folder, ", ".join(missing))
    features = FrozenFeatures(
        backbone, device, size, resize, 1, batch_size, workers, output / "features" if cache is None else cache
    )
    classes = class_names(folder / there[0] / "val")
    layer, meaning = None, None
    if head is None:
        layer = _trained(features, folder, train, classes, strength)
    results: Results = {}
    for name in there:
        images, _ = read_class_folders(folder / name / "val", "data.root", classes)
        found = features(images, f"Features of {name}")
        if layer is None:
            assert head is not None
            layer = read_head(head, found.shape[1])
            meaning = _meaning(layer, mapping, len(classes))
        answers = layer.predict(found)
        results[name] = 100 * float(((answers if meaning is None else meaning[answers]) == images.labels).mean())
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
    probe = linear_probe(features(images, "Features to train on"), images.labels, strength)
    scaler, regression = probe[0], probe[-1]
    assert isinstance(scaler, StandardScaler)
    assert isinstance(regression, LogisticRegression)
    weight, bias = regression.coef_ / scaler.scale_, regression.intercept_
    if len(classes) == 2:  # scikit-learn gives the second class's score only
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        shift = weight @ scaler.mean_
        return LinearHead(np.float32(weight), np.float32(bias - shift))
    return LinearHead(np.float32(weight), np.float32(bias - weight @ scaler.mean_))


def _meaning(layer: LinearHead, mapping: str | Path | None, classes: int) -> NDArray[np.int64] | None:
    outputs = len(layer.weight)
    if mapping is not None:
        return read_mapping(mapping, outputs, classes)
    if outputs != classes:
        raise InputError(
            f"the head has {outputs} outputs for {classes} classes: give protocol.mapping=in_to_in9.json, which says "
            "what they mean"
        )
    return None
