"""Labelled images to train and test on: folders in ImageNet's layout, or the built-in scenes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data import ArraySource
from castlit.data.scenes import OBJECTS, Scenes
from castlit.evaluation.frozen import ImageList, Images, read_class_folders
from castlit.utils.validation import InputError, require_int, require_number, require_path

SIZE, SCENE_SIZE = 224, 64
"""Side of the network's input in pixels, for photographs and for scenes."""


class SceneImages(ArraySource):
    """Scenes as images with a state, which identifies their cached features."""

    def __init__(self, scenes: Scenes) -> None:
        super().__init__(scenes.images, scenes.masks, scenes.objects)
        self._state = repr((len(scenes), scenes.split, scenes.size, scenes.background_correlation, scenes.seed))

    def state(self) -> bytes:
        """Identify the scenes."""
        return self._state.encode()


class Labelled(NamedTuple):
    """Labelled images to train and to test on."""

    train: Images
    train_labels: NDArray[np.int64]
    val: Images
    val_labels: NDArray[np.int64]
    classes: list[str]
    size: int
    """Default side of the network's input."""
    resize: int | None
    """Default length of the short side before the central crop; None: 8/7 of the input's side."""

    def input_sizes(self, size: int | None, resize: int | None) -> tuple[int, int | None]:
        """Return the user's sizes, with defaults for None; ``resize`` follows another ``size``."""
        if size is None:
            return self.size, self.resize if resize is None else resize
        return size, (None if self.resize is None else size) if resize is None else resize


def open_labelled(root: str | Path | None, train_count: int = 4096, test_count: int = 1000) -> Labelled:
    """Open ``train/<class>/*`` and ``val/<class>/*``.

    Args:
        root: The folder; None: the built-in scenes. Their training images have backgrounds that go with the objects,
            the test images any background (``mixed_rand``).
        train_count: Scenes to train on.
        test_count: Scenes to test on.

    Raises:
        InputError: A split is missing, or the classes of the splits differ.
        FileNotFoundError: No such folder.
    """
    if root is None:
        require_int("protocol.train_count", train_count, 1)
        require_int("protocol.test_count", test_count, 1)
        # Not the seed of pretraining.
        train, val = Scenes(train_count, seed=1), Scenes(test_count, split="mixed_rand")
        images = SceneImages(train), SceneImages(val)
        return Labelled(images[0], train.objects, images[1], val.objects, list(OBJECTS), SCENE_SIZE, SCENE_SIZE)
    top = require_path("data.root", root)
    for split in ("train", "val"):
        if top.is_dir() and not (top / split).is_dir():
            raise InputError(f"data.root={top} lacks {split}: there must be train/<class>/ and val/<class>/")
    train_images, classes = read_class_folders(top / "train", "data.root")
    val_images, _ = read_class_folders(top / "val", "data.root", classes)
    return Labelled(train_images, _labels(train_images), val_images, _labels(val_images), classes, SIZE, None)


def balanced_subset(labels: NDArray[np.int64], fraction: float, seed: int = 0) -> NDArray[np.int64]:
    """Choose a fraction of the images, the same number from each class; deterministic.

    Args:
        labels: (N,).
        fraction: In (0, 1]; 1 is all of them, balanced or not.
        seed: Another seed chooses other images.

    Returns:
        Indices, ascending; at least one per class. Of a class with fewer images than the others give, all are taken,
        and the others give more, so that the fraction is that of all images.
    """
    require_number("protocol.labels", fraction, 0, 1, above=0)
    if fraction == 1:
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    each = _of_each_class(counts, fraction * len(labels))
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    return np.sort(np.concatenate(chosen))


def _of_each_class(counts: NDArray[np.int64], wanted: float) -> int:
    """How many images to take of each class that has as many, for a total as close as possible to ``wanted``."""
    counts = np.sort(counts)
    each = np.arange(1, counts[-1] + 1)
    smaller = np.searchsorted(counts, each)
    totals = np.concatenate([[0], np.cumsum(counts)])[smaller] + each * (len(counts) - smaller)
    return int(each[np.abs(totals - wanted).argmin()])


def _labels(images: ImageList) -> NDArray[np.int64]:
    assert images.labels is not None
    return images.labels
