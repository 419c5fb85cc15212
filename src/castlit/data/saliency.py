"""Data modules for photographs with saliency masks in folders."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from castlit.data.base import ViewsDataModule
from castlit.data.datasets import Source
from castlit.data.files import FileSource, OnBad, require_folder
from castlit.data.views import ViewOptions
from castlit.nn.checks import InputError, require_choice, require_int

VAL_SAMPLE = 256
"""Training images that validation uses where no validation images are given."""


class SaliencyDataModule(ViewsDataModule):
    """Batches from a folder of images and a folder of masks (see :class:`castlit.data.files.FileSource`).

    Args:
        images: Folder of training images, searched recursively.
        masks: Folder of their masks, paired by path but for the suffix; None trains with unconstrained crops and
            empty masks, so without attention.
        val_images: Folder of validation images. None validates on a fixed sample of at most 256 *training* images,
            which tells where the network looks, not how well it generalises.
        val_masks: Folder of their masks.
        val_count: Validate on a fixed sample of at most so many images; None means all (256 without ``val_images``).
        batch_size: Samples per batch and process.
        size: Side of the views in pixels.
        on_bad: About missing masks and unreadable files: ``"error"``, ``"drop"`` or ``"unconstrained"``; see
            ``FileSource``. An image whose mask is there but empty is kept, with unconstrained crops.
        seed: Seed of order, crops and colours.
        workers: Loader processes; None means eight, or fewer where there are fewer cores.
        val_resize: Short side before validation's central crop; None means 8/7 of ``size``.
        **views: ``min_coverage, scale, ratio, constraint, region, photometric, flip`` of
            :class:`castlit.data.views.TwoViews`.

    Raises:
        FileNotFoundError: A folder does not exist. Raised by ``setup``.
        InputError: An argument is out of range; or, by ``setup``, the folders do not go together.
    """

    most_workers = 8  # Decoding photographs takes more than drawing crops from memory.

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        *,
        val_images: str | Path | None = None,
        val_masks: str | Path | None = None,
        val_count: int | None = None,
        batch_size: int = 256,
        size: int = 224,
        on_bad: OnBad = "error",
        seed: int = 0,
        workers: int | None = None,
        val_resize: int | None = None,
        **views: Unpack[ViewOptions],
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, seed=seed, workers=workers, val_resize=val_resize, **views)
        if val_masks is not None and val_images is None:
            raise InputError("val_masks needs val_images: give the folder of the validation images too")
        self.images, self.masks = images, masks
        self.val_images, self.val_masks = val_images, val_masks
        self.val_count = None if val_count is None else require_int("val_count", val_count, 1)
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad: OnBad = on_bad

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Search the folders.

        Raises:
            FileNotFoundError: A folder does not exist.
            InputError: There are no images, or masks are missing and ``on_bad`` is ``"error"``.
        """
        train = FileSource(self.images, self.masks, on_bad=self.on_bad)
        if self.val_images is None:
            return train, train, _fixed_sample(len(train), self.val_count or VAL_SAMPLE)
        val = FileSource(self.val_images, self.val_masks, on_bad=self.on_bad, prefix="val_")
        return train, val, _fixed_sample(len(val), self.val_count or len(val))


class CocoDataModule(SaliencyDataModule):
    """Batches from COCO's folders: ``<root>/{train,val}2017/*.jpg`` and ``<masks>/{train,val}2017/*.png``.

    Args:
        root: Folder that holds ``train2017`` and ``val2017``.
        masks: Folder that holds the masks in folders of the same names; None trains without masks.
        val_count: As in :class:`SaliencyDataModule`.
        batch_size: Samples per batch and process.
        size: Side of the views in pixels.
        on_bad: As in :class:`SaliencyDataModule`.
        seed: Seed of order, crops and colours.
        workers: Loader processes.
        val_resize: As in :class:`SaliencyDataModule`.
        **views: As in :class:`SaliencyDataModule`.

    Raises:
        FileNotFoundError: A folder does not exist.
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        masks: str | Path | None = None,
        *,
        val_count: int | None = None,
        batch_size: int = 256,
        size: int = 224,
        on_bad: OnBad = "error",
        seed: int = 0,
        workers: int | None = None,
        val_resize: int | None = None,
        **views: Unpack[ViewOptions],
    ) -> None:
        images = _split_folders("root", root, "COCO's photographs (cocodataset.org: train2017.zip, val2017.zip)")
        folders = (None, None) if masks is None else _split_folders("masks", masks, "their masks (PNG)")
        super().__init__(
            images[0],
            folders[0],
            val_images=images[1],
            val_masks=folders[1],
            val_count=val_count,
            batch_size=batch_size,
            size=size,
            on_bad=on_bad,
            seed=seed,
            workers=workers,
            val_resize=val_resize,
            **views,
        )


def _split_folders(key: str, path: str | Path, content: str) -> tuple[Path, Path]:
    """The folders ``train2017`` and ``val2017`` of ``path``."""
    folder = require_folder(key, path, f"train2017 and val2017, with {content}")
    train, val = folder / "train2017", folder / "val2017"
    for split in (train, val):
        if not split.is_dir():
            raise FileNotFoundError(f"{key}={folder} has no folder {split.name}, which should hold {content}")
    return train, val


def _fixed_sample(total: int, count: int) -> NDArray[np.int64]:
    """Sorted indices of ``count`` of ``total`` items (all, where there are fewer); the same on every call."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, count, replace=False))
