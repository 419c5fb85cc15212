"""The data module of the built-in scenes: no files, no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from castlit.data.datamodules.base import Place, ViewsDataModule
from castlit.data.datamodules.scene_masks import scene_masks
from castlit.data.io.array_source import ArraySource
from castlit.data.io.source import Source
from castlit.data.scenes import Scenes
from castlit.data.transforms.views import ViewOptions
from castlit.utils.validation import require_int, require_number


class ScenesDataModule(ViewsDataModule):
    """Batches from the built-in scenes (:class:`castlit.data.scenes.Scenes`).

    In training scenes, the background correlates with the object; validation uses ``mixed_rand``, where it does not,
    with the objects' classes as labels. Validation shows the full scene at the size of the views.

    Args:
        train_count: Number of training scenes.
        val_count: Number of validation scenes.
        size: Side of the views in pixels.
        scene_size: Side of the scenes in pixels; views are crops of them.
        background_correlation: Probability that a training scene has the background of its object's class, in [0, 1].
        batch_size: Samples per batch and process.
        seed: Seed of order, crops and colour augmentation; the scenes do not depend on it.
        scene_seed: Seed of the scenes.
        masks: Training masks, see :func:`castlit.data.datamodules.scene_masks.scene_masks`; validation masks are exact.
        workers: Loader processes; None means two, or fewer on fewer cores.
        photometric: See :class:`castlit.data.datamodules.base.ViewsDataModule`.
        views: See :class:`castlit.data.datamodules.base.ViewsDataModule`.
        **options: ``min_coverage, scale, ratio, constraint, region, law, colours, flip`` of
            :class:`castlit.data.TwoViews`.

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
        views: Mapping[str, Any] | None = None,
        **options: Unpack[ViewOptions],
    ) -> None:
        super().__init__(
            size=size,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            val_resize=size,
            photometric=photometric,
            views=views,
            **options,
        )
        self.train_count = require_int("train_count", train_count, 1)
        self.val_count = require_int("val_count", val_count, 1)
        self.scene_size = require_int("scene_size", scene_size, 16)
        self.background_correlation = require_number("background_correlation", background_correlation, 0, 1)
        self.scene_seed = require_int("scene_seed", scene_seed, 0)
        self.masks = masks

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Render the scenes."""
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
