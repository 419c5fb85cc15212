"""The protocol ``scenes``: does the encoder see the object, or the background that goes with it?"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from castlit.attention import pointing_hits
from castlit.data import ArraySource, EvalDataset, collate
from castlit.data.datamodules.datasets import images_on
from castlit.data.scenes import Scenes
from castlit.evaluation.frozen import linear_probe
from castlit.evaluation.network import Explain
from castlit.nn.nearest_neighbours import knn_accuracy
from castlit.reporting.results import Results
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, require_int

CPU = torch.device("cpu")

TEST_SPLITS = ("original", "mixed_same", "mixed_rand", "only_fg")


class _Explained(NamedTuple):
    """Features, CAMs and masks of a data set, on the CPU."""

    features: Tensor
    """(N, C)."""
    cams: Tensor
    """(N, h, w)."""
    masks: Tensor
    """(N, 1, H, W)."""


def evaluate_scenes(
    explain: Explain | None = None,
    device: torch.device = CPU,
    backbone: nn.Module | None = None,
    train_count: int = 4096,
    test_count: int = 1000,
    scene_size: int = 72,
    size: int = 64,
    background_correlation: float = 0.9,
) -> Results:
    """Probe frozen features for the object's class, and Grad-CAM for its place.

    There are two linear probes. One is trained on scenes like those of pretraining, whose backgrounds correlate with
    the objects, and tested on every split; its drop from ``mixed_same`` to ``mixed_rand`` is the background gap of Xiao
    et al., 2021. The other is trained and tested on random backgrounds: it measures how much the features hold of the
    object.

    Args:
        explain: Maps images and masks to features and CAMs, see :data:`castlit.evaluation.network.Explain`; None if
            the network is no checkpoint of castlit's training: then there are no pointing metrics.
        device: The network's device.
        backbone: Used if ``explain`` is None: maps normalised images to a feature map (N, C, h, w).
        train_count: Scenes to train each probe on.
        test_count: Scenes in each test split.
        scene_size: Side of a scene in pixels.
        size: Side of the network's input in pixels.
        background_correlation: How often backgrounds go with objects in the pretraining scenes, in [0, 1].

    Returns:
        ``linear/<split>``, ``linear/background_gap``, ``object_information``, ``knn``, ``pointing/<split>``; all in
        [0, 1].

    Raises:
        InputError: Neither ``explain`` nor ``backbone`` is given, or there are too few scenes.
    """
    if explain is None and backbone is None:
        raise InputError("evaluate_scenes needs explain or backbone")
    require_int("protocol.train_count", train_count, 2)
    require_int("protocol.test_count", test_count, 2)
    explain_batch = explain or _features_only(backbone)  # type: ignore[arg-type]

    together = partial(collate, raw=device.type != "cpu")

    def explained(scenes: Scenes, pace: ProgressLog) -> _Explained:
        dataset = EvalDataset(ArraySource(scenes.images, scenes.masks, scenes.objects), size, size, None)
        return _explain_all(explain_batch, DataLoader(dataset, 256, collate_fn=together), device, pace)

    results: Results = {}
    with ProgressLog("Explaining", 2 * train_count + len(TEST_SPLITS) * test_count) as pace:
        # Not the seed of pretraining: the probe sees new scenes of the same kind.
        like_training = Scenes(train_count, size=scene_size, background_correlation=background_correlation, seed=1)
        probe = linear_probe(explained(like_training, pace).features.numpy(), like_training.objects)
        for split in TEST_SPLITS:
            scenes = Scenes(test_count, split=split, size=scene_size, background_correlation=background_correlation)
            seen = explained(scenes, pace)
            results[f"linear/{split}"] = float(probe.score(seen.features.numpy(), scenes.objects))
            if explain is not None:
                results[f"pointing/{split}"] = pointing_hits(seen.cams, seen.masks).float().mean().item()
            if split == "mixed_rand":
                random_test, random_scenes = seen, scenes
        random_train = Scenes(train_count, split="mixed_rand", size=scene_size, seed=1)
        on_random = linear_probe(explained(random_train, pace).features.numpy(), random_train.objects)
    results["linear/background_gap"] = results["linear/mixed_same"] - results["linear/mixed_rand"]
    results["object_information"] = float(on_random.score(random_test.features.numpy(), random_scenes.objects))
    results["knn"] = knn_accuracy(random_test.features, torch.from_numpy(random_scenes.objects))
    return results


def _explain_all(
    explain: Explain, batches: Iterable[Mapping[str, Tensor]], device: torch.device, pace: ProgressLog
) -> _Explained:
    parts = []
    for batch in batches:
        features, cams = explain(images_on(batch["image"], device), batch["mask"].to(device, non_blocking=True))
        parts.append((features.float().cpu(), cams.float().cpu(), batch["mask"]))
        pace.advance(len(features))
    return _Explained(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _features_only(backbone: nn.Module) -> Explain:
    @torch.inference_mode()
    def explain(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        features = backbone(images).float().mean((2, 3))
        return features, features.new_zeros(len(images), 1, 1)

    return explain
