"""The data module of the built-in scenes: no files, no network."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from castlit.data.datamodules.base import Place, ViewsDataModule
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Item, Source
from castlit.data.scenes import Scenes
from castlit.data.scenes.masks import scene_masks
from castlit.data.transforms.views import ViewOptions
from castlit.utils.validation import require_int, require_number


class ArraySource:
    """Images, masks and labels held in memory.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W), nonzero is salient.
        labels: (N,) whole numbers, or None.
    """

    def __init__(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], labels: NDArray[np.int64] | None = None
    ) -> None:
        self.images, self.masks, self.labels = images, masks, labels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Item:
        """Image, mask and label ``index``."""
        label = None if self.labels is None else int(self.labels[index])
        return Item(self.images[index], self.masks[index], label)

    def give_up(self, index: int, error: SampleError) -> None:
        """What is in memory cannot turn bad: raise."""
        raise error


class ScenesDataModule(ViewsDataModule):
    """Batches from the built-in scenes (:class:`castlit.data.scenes.Scenes`).

    Trains on scenes whose background goes with the object, and validates on ``mixed_rand``, where it does not; the
    validation labels are the objects' classes. Validation shows the whole scene at the size of the views.

    Args:
        train_count: Number of training scenes.
        val_count: Number of validation scenes.
        size: Side of the views in pixels.
        scene_size: Side of the scenes in pixels, of which the views are crops.
        background_correlation: How often a training scene's background is the one of its object's class, in [0, 1].
        batch_size: Samples per batch and process.
        seed: Seed of order, crops and colours; the scenes do not depend on it.
        scene_seed: Seed of the scenes themselves.
        masks: What training takes for masks, see :func:`castlit.data.scenes.masks.scene_masks`; validation's are exact.
        workers: Loader processes; None means two, or fewer where there are fewer cores.
        photometric: As in :class:`castlit.data.datamodules.base.ViewsDataModule`.
        **views: ``min_coverage, scale, ratio, constraint, region, law, colours, flip`` of
            :class:`castlit.data.transforms.views.TwoViews`.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        train_count: int = 4096,
        val_count: int = 512,
        size: int = 64,
        scene_size: int = 72,
        background_correlation: float = 0.9,
        batch_size: int = 128,
        seed: int = 0,
        scene_seed: int = 0,
        masks: str | Path = "exact",
        workers: int | None = None,
        photometric: Place = "cpu",
        **views: Unpack[ViewOptions],
    ) -> None:
        super().__init__(
            size=size,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            val_resize=size,
            photometric=photometric,
            **views,
        )
        self.train_count = require_int("train_count", train_count, 1)
        self.val_count = require_int("val_count", val_count, 1)
        self.scene_size = require_int("scene_size", scene_size, 16)
        self.background_correlation = require_number("background_correlation", background_correlation, 0, 1)
        self.scene_seed = require_int("scene_seed", scene_seed, 0)
        self.masks = masks

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Draw the scenes."""
        train = Scenes(
            self.train_count,
            size=self.scene_size,
            background_correlation=self.background_correlation,
            seed=self.scene_seed,
        )
        val = Scenes(self.val_count, split="mixed_rand", size=self.scene_size, seed=self.scene_seed)
        return (
            ArraySource(train.images, scene_masks(train, self.masks), train.objects),
            ArraySource(val.images, val.masks, val.objects),
            None,
        )
