"""Data modules for photographs with saliency masks in folders."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from typing_extensions import Unpack

from castlit.data.datamodules.base import LoaderOptions, ViewsDataModule
from castlit.data.datamodules.full_images import require_maker
from castlit.data.index.file_source import FileSource, open_index
from castlit.data.io.bad_samples import OnBad
from castlit.data.io.data_report import DataReport
from castlit.data.io.folders import require_folder, require_masks
from castlit.data.io.mask_store import SELF, wants_own_masks
from castlit.data.io.masks import THRESHOLD
from castlit.data.io.source import Sample, Source
from castlit.utils.validation import InputError, require_choice, require_int, require_number

logger = logging.getLogger(__name__)

VAL_SAMPLE = 256
"""Training images that validation uses where no validation images are given."""


class SaliencyDataModule(ViewsDataModule):
    """Batches from a folder of images and a folder of masks (see :class:`castlit.data.index.file_source.FileSource`).

    All images and masks are looked at once, with a progress bar. What was found is kept in ``cache``, and what was
    wrong is listed in ``data_report.csv`` in the trainer's folder.

    Args:
        images: Folder of training images, searched recursively.
        masks: Folder of their masks, paired by path but for the suffix; or COCO's instance annotations (.json). None
            trains with unconstrained crops and empty masks, so without attention. ``"self"``: the run makes them itself
            from where its encoder looks, by :class:`castlit.callbacks.SelfMasks`; until then as None. (A folder of that
            name is ``./self``.)
        val_images: Folder of validation images. None validates on a fixed sample of at most 256 *training* images,
            which tells where the network looks, not how well it generalises.
        val_masks: Their masks. Where ``masks="self"``, None means ``"self"`` too.
        val_count: Validate on a fixed sample of at most so many images; None means all (256 without ``val_images``).
        on_bad: About masks that are missing, empty, unreadable or of another shape, and unreadable images: ``"error"``,
            ``"drop"`` or ``"unconstrained"``; see ``FileSource``.
        threshold: Share of a mask's full level above which a pixel is salient, in [0, 1]; None means 128 of 255, as in
            the reference code.
        cache: Folder for what was found out about the files, used again while they stay the same. None keeps it in
            ``castlit_index`` in the trainer's folder, or in memory without a trainer.
        **options: See :class:`castlit.data.datamodules.base.ViewsDataModule`; ``size`` is 224 and ``batch_size`` 256 by default.

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
        on_bad: OnBad = "error",
        threshold: float | None = None,
        cache: str | Path | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        if val_masks is not None and val_images is None:
            raise InputError("val_masks needs val_images: give the folder of the validation images too")
        if wants_own_masks("masks", masks) and val_images is not None and val_masks is None:
            val_masks = SELF
        if wants_own_masks("val_masks", val_masks) and masks != SELF:
            raise InputError("val_masks=self needs masks=self: a run that makes masks makes them for training, too")
        self.images, self.masks = images, masks
        self.val_images, self.val_masks = val_images, val_masks
        self.val_count = None if val_count is None else require_int("val_count", val_count, 1)
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad: OnBad = on_bad
        self.threshold = THRESHOLD if threshold is None else require_number("threshold", threshold, 0, 1)
        self.cache = cache

    def prepare_data(self) -> None:
        """Build the index in one process of each machine; the others wait, and read it."""
        cache = self._cache_folder(self.cache)
        if self._sources is not None or cache is None:
            return
        for key, images, masks in (("", self.images, self.masks), ("val_", self.val_images, self.val_masks)):
            if images is not None:
                folder = require_folder(f"{key}images", images, "the photographs")
                where = None if masks is None or masks == SELF else require_masks(f"{key}masks", masks)
                open_index(folder, where, self.threshold, cache)

    def train_dataloader(self) -> DataLoader[Sample | None]:
        """Shuffled two-view batches."""
        require_maker(self.sources[0])
        return super().train_dataloader()

    def val_dataloader(self) -> DataLoader[Sample | None]:
        """Validation batches in fixed order."""
        require_maker(self.sources[1])
        return super().val_dataloader()

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Search the folders.

        Raises:
            FileNotFoundError: A folder does not exist.
            InputError: There are no images, or something is wrong with them and ``on_bad`` is ``"error"``.
        """
        report = self._report()
        train = self._source("train", self.images, self.masks, report)
        if self.val_images is None:
            return train, train, _fixed_sample(len(train), self.val_count or VAL_SAMPLE)
        val = self._source("val", self.val_images, self.val_masks, report)
        return train, val, _fixed_sample(len(val), self.val_count or len(val))

    @property
    def masks_made(self) -> dict[str, Any] | None:
        """How castlit made the training masks, as far as ``masks.json`` tells; None where it has not made them."""
        source = self.sources[0]
        made = source.made if isinstance(source, FileSource) else None
        return made and {key: made.get(key) for key in ("quality", "method", "settings", "castlit", "complete")}

    def _source(
        self, split: str, images: str | Path, masks: str | Path | None, report: DataReport | None
    ) -> FileSource:
        own = masks == SELF
        if own and Path(SELF).exists():
            logger.warning("masks=self: the run makes its masks itself; the folder of that name is ./self")
        return FileSource(
            images,
            None if own else masks,
            own_masks=own,
            on_bad=self.on_bad,
            threshold=self.threshold,
            cache=self._cache_folder(self.cache),
            report=report,
            split=split,
        )


class CocoDataModule(SaliencyDataModule):
    """Batches from COCO's folders: ``<root>/{train,val}2017/*.jpg`` and ``<masks>/{train,val}2017/*.png``.

    Args:
        root: Folder that holds ``train2017`` and ``val2017``.
        masks: Folder that holds the masks in folders of the same names; or ``annotations/instances_train2017.json``
            (as it is, or below ``root``), beside which ``instances_val2017.json`` lies. None trains without masks, and
            ``"self"`` is as in :class:`SaliencyDataModule`.
        val_count: As in :class:`SaliencyDataModule`.
        on_bad: As in :class:`SaliencyDataModule`.
        threshold: As in :class:`SaliencyDataModule`.
        cache: As in :class:`SaliencyDataModule`.
        **options: As in :class:`SaliencyDataModule`.

    Raises:
        FileNotFoundError: A folder or file does not exist.
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        masks: str | Path | None = None,
        *,
        val_count: int | None = None,
        on_bad: OnBad = "error",
        threshold: float | None = None,
        cache: str | Path | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        images = _split_folders("root", root, "COCO's photographs (cocodataset.org: train2017.zip, val2017.zip)")
        train_masks, val_masks = _split_masks(root, masks)
        super().__init__(
            images[0],
            train_masks,
            val_images=images[1],
            val_masks=val_masks,
            val_count=val_count,
            on_bad=on_bad,
            threshold=threshold,
            cache=cache,
            **options,
        )


def _split_masks(root: str | Path, masks: str | Path | None) -> tuple[str | Path | None, str | Path | None]:
    """The training and validation masks: folders, the two files of annotations, ``"self"`` or None."""
    if masks is None or wants_own_masks("masks", masks):
        return masks, masks
    given = Path(masks).expanduser()
    if given.suffix.lower() != ".json":
        return _split_folders("masks", given, "their masks (PNG)")
    train = given if given.is_file() else Path(root).expanduser() / given
    if not train.is_file():
        raise FileNotFoundError(f"masks={masks} does not exist, neither as it is nor below root={root}")
    val = train.with_name(train.name.replace("train", "val"))
    if val == train or not val.is_file():
        raise FileNotFoundError(
            f"masks={masks} must name the training annotations (instances_train2017.json), with the validation "
            "annotations (instances_val2017.json) in the same folder"
        )
    return train, val


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
