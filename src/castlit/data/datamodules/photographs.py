"""The data module for photographs with saliency masks in folders."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from typing_extensions import Unpack

from castlit.data.datamodules.base import LoaderOptions, ViewsDataModule
from castlit.data.datamodules.full_images import require_mask_maker
from castlit.data.index.cache import open_index
from castlit.data.index.file_source import FileSource
from castlit.data.io.bad_samples import OnBad
from castlit.data.io.data_report import DataReport
from castlit.data.io.folders import refuse_nested, require_folders, same_folder
from castlit.data.io.mask_store import SELF, is_self
from castlit.data.io.masks import THRESHOLD, MaskKind, require_mask_kind
from castlit.data.io.source import Sample, Source
from castlit.utils.validation import InputError, require_choice, require_int, require_number

logger = logging.getLogger(__name__)

VAL_SAMPLE = 256
"""Number of training images used for validation if no validation images are given."""


class SaliencyDataModule(ViewsDataModule):
    """Batches from a folder of images and a folder of masks (see :class:`castlit.data.index.file_source.FileSource`).

    Before training, all images and masks are opened once, with a progress bar. The index is saved in ``cache``, and
    problems are listed in ``data_report.csv`` in the trainer's folder.

    Args:
        images: Folder of training images, searched recursively.
        masks: Folder of masks, paired with the images by path without suffix; or COCO's instance annotations (.json).
            None trains with unconstrained crops and empty masks, so without attention. ``"self"``: the run makes masks
            from its encoder's saliency maps (:class:`castlit.callbacks.SelfMasks`); until the first ones it is as with
            None. (A folder named self is ``./self``.)
        val_images: Folder of validation images. None validates on a fixed sample of at most 256 *training* images,
            which shows where the network looks, not how well it generalises.
        val_masks: Masks of the validation images. With ``masks="self"``, None means ``"self"``.
        val_count: Validate on a fixed sample of at most this many images; None means all (256 without ``val_images``).
        on_bad: What to do with masks that are missing, empty, unreadable or of another shape, and with unreadable
            images: ``"error"``, ``"drop"`` or ``"unconstrained"``; see ``FileSource``.
        threshold: Fraction of a mask's full level above which a pixel is salient, in [0, 1]; None means 128 of 255, as
            in the reference code.
        mask_kind: What the pixels of masks mean: ``"auto"``, ``"levels"``, ``"labels"`` or ``"colours"``, see
            :func:`castlit.data.io.masks.decode_mask`.
        cache: Folder for the index, which is reused while the files do not change. None means ``castlit_index`` in the
            trainer's folder, or in memory without a trainer.
        **options: See :class:`castlit.data.datamodules.base.ViewsDataModule`; by default, ``size`` is 224 and
            ``batch_size`` 256.

    Raises:
        FileNotFoundError: A folder does not exist. Raised by ``setup``.
        InputError: An argument is out of range. ``setup`` raises it if a folder has no images, or files are bad and
            ``on_bad`` is ``"error"``.
    """

    most_workers = 8  # Decoding photographs is slower than cropping images in memory.

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | None = None,
        *,
        val_images: str | Path | None = None,
        val_masks: str | Path | None = None,
        val_count: int | None = None,
        on_bad: OnBad = "error",
        threshold: float | None = None,
        mask_kind: MaskKind = "auto",
        cache: str | Path | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        if val_masks is not None and val_images is None:
            raise InputError("val_masks needs val_images: give the folder of the validation images too")
        if is_self("masks", masks) and val_images is not None and val_masks is None:
            val_masks = SELF
        if is_self("val_masks", val_masks) and masks != SELF:
            raise InputError("val_masks=self needs masks=self: a run that makes masks makes them for training, too")
        self.images, self.masks = images, masks
        self.val_images, self.val_masks = val_images, val_masks
        self.val_count = None if val_count is None else require_int("val_count", val_count, 1)
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad: OnBad = on_bad
        self.threshold = THRESHOLD if threshold is None else require_number("threshold", threshold, 0, 1)
        self.mask_kind = require_mask_kind("mask_kind", mask_kind)
        self.cache = cache

    def prepare_data(self) -> None:
        """Build the index in one process of each machine, while the others wait."""
        cache = self._cache_folder(self.cache)
        if self._sources is not None or cache is None:
            return
        for images, masks in self._folders():
            open_index(images, masks, self.threshold, cache, self.mask_kind)

    def train_dataloader(self) -> DataLoader[Sample | None]:
        """Shuffled two-view batches."""
        require_mask_maker(self.sources[0])
        return super().train_dataloader()

    def val_dataloader(self) -> DataLoader[Sample | None]:
        """Validation batches in fixed order."""
        require_mask_maker(self.sources[1])
        return super().val_dataloader()

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Open the index of each folder of images.

        Raises:
            FileNotFoundError: A folder does not exist.
            InputError: There are no images, or a file is bad and ``on_bad`` is ``"error"``.
        """
        self._folders()
        report = self._report()
        train = self._source("train", self.images, self.masks, report)
        if self.val_images is None:
            return train, train, _fixed_sample(len(train), self.val_count or VAL_SAMPLE)
        val = self._source("val", self.val_images, self.val_masks, report)
        return train, val, _fixed_sample(len(val), self.val_count or len(val))

    @property
    def masks_made(self) -> dict[str, Any] | None:
        """How castlit made the training masks, from their ``masks.json``; None if castlit did not make them."""
        source = self.sources[0]
        content = source.masks_json if isinstance(source, FileSource) else None
        return content and {key: content.get(key) for key in ("quality", "method", "settings", "castlit", "complete")}

    def _folders(self) -> list[tuple[Path, Path | None]]:
        """The folders of images and masks of each split.

        Raises:
            FileNotFoundError: One does not exist.
            InputError: Masks would be read as images.
        """
        given = [("", self.images, self.masks)]
        if self.val_images is not None:
            given.append(("val_", self.val_images, self.val_masks))
        found = [require_folders(images, None if masks == SELF else masks, prefix) for prefix, images, masks in given]
        if len(found) == 2:
            _refuse_crossed("masks", found[0][1], "val_images", *found[1])
            _refuse_crossed("val_masks", found[1][1], "images", *found[0])
        return found

    def _source(
        self, split: str, images: str | Path, masks: str | Path | None, report: DataReport | None
    ) -> FileSource:
        own_masks = masks == SELF
        if own_masks and Path(SELF).exists():
            logger.warning("masks=self: the run makes its masks itself; to use the folder named self, give ./self")
        return FileSource(
            images,
            None if own_masks else masks,
            own_masks=own_masks,
            on_bad=self.on_bad,
            threshold=self.threshold,
            mask_kind=self.mask_kind,
            cache=self._cache_folder(self.cache),
            report=report,
            split=split,
        )


def _refuse_crossed(key: str, masks: Path | None, images_key: str, images: Path, own_masks: Path | None) -> None:
    """Check that the images of a split do not contain the masks of the other one; one folder for all is allowed."""
    if masks is None or masks.is_file() or images.resolve() not in (masks.resolve(), *masks.resolve().parents):
        return
    if own_masks is None or not (same_folder(images, own_masks) and same_folder(images, masks)):
        refuse_nested(key, masks, images_key, images)


def _fixed_sample(total: int, count: int) -> NDArray[np.int64]:
    """Sorted indices of ``count`` of ``total`` items, or of all if there are fewer; the same on every call."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, count, replace=False))
