"""The protocol ``knn``: nearest neighbours of frozen features."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from castlit.evaluation.frozen import FrozenFeatures
from castlit.evaluation.probing.labelled import open_labelled
from castlit.nn.nearest_neighbours import knn_accuracy
from castlit.reporting.results import Results
from castlit.utils.validation import InputError, as_list, require_int

logger = logging.getLogger(__name__)

_SIMILARITIES = 2**26  # at a time: 256 MiB


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
        device: The backbone's device.
        output: The run's folder.
        root: Holds ``train/<class>`` and ``val/<class>``; None: the built-in scenes.
        k: Number of neighbours that vote; one metric for each. Of more neighbours than training images, all vote, with
            a warning.
        temperature: T of the vote exp(cosine / T), > 0.
        size: Side of the network's input in pixels; None: 224, or 64 for scenes.
        resize: Length of the short side before the central crop; None: 8/7 of ``size``, or the full scene.
        train_count: Scenes whose features vote.
        test_count: Scenes to test on.
        batch_size: Images at a time.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        cache: Folder for features; None: ``features`` in ``output``.

    Returns:
        ``top1/k=<k>``, in [0, 100].

    Raises:
        InputError: A number is out of range, or a split is missing.
    """
    counts = [require_int("protocol.k", value, 1) for value in as_list(k)]
    if not counts:
        raise InputError("protocol.k is empty: give a number of neighbours, such as 20")
    data = open_labelled(root, train_count, test_count)
    size, resize = data.input_sizes(size, resize)
    features = FrozenFeatures(
        backbone, device, size, resize, 1, batch_size, workers, output / "features" if cache is None else cache
    )
    bank = torch.from_numpy(features(data.train, "Features of train")), torch.from_numpy(data.train_labels)
    tested, labels = torch.from_numpy(features(data.val, "Features of val")), torch.from_numpy(data.val_labels)
    chunk = max(1, _SIMILARITIES // len(bank[0]))
    results: Results = {}
    for count in counts:
        if count > len(bank[0]):
            logger.warning("protocol.k=%d: there are %d training images, and all of them vote", count, len(bank[0]))
        parts = zip(torch.split(tested, chunk), torch.split(labels, chunk), strict=True)
        correct = sum(knn_accuracy(x, y, bank, count, temperature) * len(y) for x, y in parts)
        results[f"top1/k={count}"] = 100 * correct / len(labels)
    return results
