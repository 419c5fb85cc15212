"""The data module for photographs with masks in tar files."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from typing_extensions import Unpack

from castlit.data.datamodules.base import LoaderOptions, ViewsDataModule
from castlit.data.datamodules.datasets import collate
from castlit.data.datamodules.loader import ViewLoader, worker_options
from castlit.data.io.bad_samples import BadSamples, OnBad
from castlit.data.io.data_report import DataReport
from castlit.data.io.mask_store import SELF
from castlit.data.io.masks import THRESHOLD, MaskKind, require_mask_kind
from castlit.data.io.source import Sample, Source
from castlit.data.shards.counts import shard_counts
from castlit.data.shards.dataset import BatchNumberSampler, ShardDataset
from castlit.data.shards.memory_source import MemorySource, first_records, spread_records
from castlit.data.shards.plan import LANES, Plan
from castlit.data.shards.records import AUTO, RecordReader
from castlit.data.shards.urls import find_shards
from castlit.utils.distributed import rank, world_size
from castlit.utils.validation import InputError, require_bool, require_choice, require_int, require_number

logger = logging.getLogger(__name__)


class ShardsDataModule(ViewsDataModule):
    """Batches from tar files in webdataset's format, read in streams; ``castlit.make_shards`` writes them.

    A sample is an image (``.jpg``, ``.jpeg``, ``.webp``, ``.bmp``, ``.tif``, ``.tiff`` or ``.png``) and its mask
    (``.mask.png``, ``.mask.npy`` and so on, ``.seg.png``, or ``.png`` or ``.npy`` if the image has another suffix). In
    each epoch every sample is read once, by one worker of one rank. Batches do not depend on the number of workers,
    which must divide 16 and is rounded down.

    A batch mixes only the samples in one stream's buffer. Shards with sorted samples, such as by class, should be
    rewritten with ``castlit.make_shards``, which shuffles.

    Args:
        urls: Pattern of the training shards, or several (see :func:`castlit.data.shards.urls.find_shards`).
        val_urls: Likewise for validation. None validates on *training* images, taken evenly from the shards.
        val_count: Number of validation samples. They are kept in memory, encoded.
        masks: Suffix of the mask in a sample; ``"auto"`` finds the usual ones. None trains with unconstrained crops and
            empty masks, so without attention.
        shuffle: Size of the shuffle buffer of each of a process's 16 streams, in encoded samples; 0 keeps the order.
        drop_last: Leave out the last, incomplete batch of an epoch, unless it is the only one.
        on_bad: What to do with samples whose mask is missing, unreadable, empty or of another shape, and with
            unreadable images: ``"error"``, ``"drop"`` or ``"unconstrained"``, as for files; but they are found while
            training. Samples that ``castlit.make_shards`` wrote without a mask, as it was asked to, are not bad.
        threshold: Fraction of a mask's full level above which a pixel is salient, in [0, 1]; None means 128 of 255, as
            in the reference code.
        mask_kind: What the pixels of masks mean: ``"auto"``, ``"levels"``, ``"labels"`` or ``"colours"``, see
            :func:`castlit.data.io.masks.decode_mask`.
        cache: Folder for the sizes of shards without a ``shards.json`` beside them. None means ``castlit_index`` in the
            trainer's folder, or in memory without a trainer.
        **options: See :class:`castlit.data.datamodules.base.ViewsDataModule`; by default, ``size`` is 224 and
            ``batch_size`` 256.

    Raises:
        FileNotFoundError: A shard does not exist. Raised by ``setup``.
        InputError: An argument is out of range. ``setup`` raises it if a pattern or shard cannot be used.
    """

    most_workers = 8  # Decoding photographs is slower than cropping images in memory.

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        *,
        val_urls: str | Path | Sequence[str | Path] | None = None,
        val_count: int = 1024,
        masks: str | None = AUTO,
        shuffle: int = 256,
        drop_last: bool = True,
        on_bad: OnBad = "error",
        threshold: float | None = None,
        mask_kind: MaskKind = "auto",
        cache: str | Path | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        self.urls, self.val_urls = urls, val_urls
        self.val_count = require_int("val_count", val_count, 1)
        if masks is not None and (not isinstance(masks, str) or not masks.strip(".")):
            raise InputError(f"masks must be auto, the suffix of the masks (mask.png), or null; got {masks!r}")
        if masks == SELF:
            raise InputError("masks=self makes masks of images in folders: data=folder or data=coco, not data=shards")
        self.masks = None if masks is None else masks.lower().lstrip(".")
        self.shuffle = require_int("shuffle", shuffle, 0)
        self.drop_last = require_bool("drop_last", drop_last)
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad: OnBad = on_bad
        self.threshold = THRESHOLD if threshold is None else require_number("threshold", threshold, 0, 1)
        self.mask_kind = require_mask_kind("mask_kind", mask_kind)
        self.cache = cache
        self._train: tuple[list[str], NDArray[np.int64]] | None = None
        self._bad_report: DataReport | None = None

    def prepare_data(self) -> None:
        """Count samples in one process of each machine, while the others wait."""
        if self._cache_folder(self.cache) is not None:
            _ = self.train_shards

    def setup(self, stage: str | None = None) -> None:
        """Find the shards, and read the validation images."""
        super().setup(stage)
        if stage in (None, "fit"):
            _ = self.train_shards

    @property
    def train_shards(self) -> tuple[list[str], NDArray[np.int64]]:
        """The training shards, and the number of samples of each."""
        if self._train is None:
            urls = find_shards("urls", self.urls)
            self._train = urls, shard_counts(urls, self._cache_folder(self.cache))
        return self._train

    @property
    def train_images(self) -> int:
        """The number of training images."""
        return int(self.train_shards[1].sum())

    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Read the validation images. They are returned as training images too, which are not read from a source.

        Raises:
            FileNotFoundError: A shard does not exist.
            InputError: A pattern cannot be understood, or a shard cannot be read.
        """
        self._bad_report = self._report()
        if self.val_urls is not None:
            find_shards("urls", self.urls)  # raises if one is missing
            records = first_records(find_shards("val_urls", self.val_urls), self.val_count, self.masks)
        else:
            records = spread_records(*self.train_shards, self.val_count, self.masks)
        if not records:
            key = "urls" if self.val_urls is None else "val_urls"
            raise InputError(f"{key}={getattr(self, key)}: the validation shards have no samples")
        bad = BadSamples(self.on_bad, len(records), "val", self._bad_report)
        source = MemorySource(records, RecordReader(self.threshold, bad, self.mask_kind))
        return source, source, None

    def train_dataloader(self) -> DataLoader[Sample | None]:
        """Shuffled two-view batches."""
        _ = self.sources  # creates the report
        urls, counts = self.train_shards
        world = world_size()
        plan = Plan(counts, self.batch_size, seed=self.seed, world=world, rank=rank(), drop_last=self.drop_last)
        bad = BadSamples(self.on_bad, plan.total, "train", self._bad_report)
        reader = RecordReader(self.threshold, bad, self.mask_kind)
        return ViewLoader(
            ShardDataset(urls, plan, reader, self.views, self.masks, self.shuffle),
            batch_size=None,
            images_per_batch=self.batch_size * world,
            sampler=BatchNumberSampler(plan),
            collate_fn=partial(collate, whole=world > 1, raw=self._raw or self.views.defer),
            **self._worker_options(),
        )

    def _worker_options(self) -> dict[str, Any]:
        options = super()._worker_options()
        workers = options["num_workers"]
        divisor = next(number for number in range(workers, -1, -1) if number == 0 or LANES % number == 0)
        if divisor == workers:
            return options
        if self.workers is not None:
            logger.warning("workers=%d: %d are used, as shards need 1, 2, 4, 8 or 16", workers, divisor)
            self.workers = divisor
        return worker_options(divisor, self.seed)
