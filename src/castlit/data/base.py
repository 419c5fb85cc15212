"""What every castlit data module shares: two-view training batches and fixed validation batches."""

import os
import sys
from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from typing_extensions import Unpack

from castlit.data.datasets import EvalDataset, Sample, Source, ViewDataset, collate, start_worker
from castlit.data.sampling import EpochSampler
from castlit.data.views import TwoViews, ViewOptions
from castlit.nn.checks import require_int


class ViewsDataModule(pl.LightningDataModule, ABC):
    """Turns sources of images into Lightning's loaders; a subclass says where the images come from.

    Training batches: ``{"query", "key"}`` float32 (N, 3, size, size), normalised by ImageNet's mean and standard
    deviation; ``{"query_mask", "key_mask"}`` uint8 (N, 1, size, size) of {0, 1}; ``"index"`` int64 (N,). Validation
    batches: ``"image"`` and ``"mask"`` likewise, ``"index"``, and ``"label"`` int64 (N,) only where there are labels.

    The last, incomplete training batch of an epoch is dropped, unless it is the only one; its images come up in other
    epochs. Under DDP each process makes its own share of the samples, and ``batch_size`` is that of one process. All
    draws come from (seed, epoch, index), so batches do not depend on the number of workers.

    Args:
        size: Side of the views in pixels.
        batch_size: Samples per batch and process.
        seed: Seed of order, crops and colours, at least 0.
        workers: Loader processes per training process; 0 loads in the training process. None means ``most_workers``, or
            fewer where there are fewer cores for each training process.
        val_resize: Short side before validation's central crop of ``size``; None means 8/7 of ``size``.
        **views: See :class:`castlit.data.views.TwoViews`.

    Raises:
        InputError: An argument is out of range.
    """

    most_workers = 2
    """Loader processes by default, where there are cores enough: scenes in memory need few."""

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        seed: int = 0,
        workers: int | None = None,
        val_resize: int | None = None,
        **views: Unpack[ViewOptions],
    ) -> None:
        super().__init__()
        self.views = TwoViews(size, **views)
        self.size = self.views.size
        self.batch_size = require_int("batch_size", batch_size, 1)
        self.seed = require_int("seed", seed, 0)
        self.workers = None if workers is None else require_int("workers", workers, 0)
        self.val_resize = None if val_resize is None else require_int("val_resize", val_resize, self.size)
        self._sources: tuple[Source, Source, NDArray[np.int64] | None] | None = None

    @abstractmethod
    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Training images, validation images, and which of the latter to use (None: all). Called once."""

    @property
    def sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """What ``make_sources`` gave."""
        if self._sources is None:
            self._sources = self.make_sources()
        return self._sources

    def setup(self, stage: str | None = None) -> None:
        """Find or make the images, so that whatever is wrong with them shows before training starts."""
        _ = self.sources

    def train_dataloader(self) -> DataLoader[Sample | None]:
        """Shuffled two-view batches."""
        dataset = ViewDataset(self.sources[0], self.views, self.seed)
        sampler = EpochSampler(dataset, seed=self.seed)
        return self._loader(dataset, sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample | None]:
        """Validation batches in fixed order."""
        _, source, indices = self.sources
        return self._loader(EvalDataset(source, self.size, self.val_resize, indices))

    def _loader(
        self, dataset: Dataset[Sample | None], sampler: EpochSampler | None = None, drop_last: bool = False
    ) -> DataLoader[Sample | None]:
        processes = self.trainer.num_devices if self.trainer is not None else None
        workers = default_workers(self.most_workers, processes) if self.workers is None else self.workers
        # Forked workers share the images in memory. Linux only: fork is unsafe on macOS and absent on Windows.
        fork = workers > 0 and sys.platform == "linux"
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if fork else None,
            pin_memory=torch.cuda.is_available(),
            collate_fn=partial(collate, whole=sampler is not None and sampler.num_replicas > 1),
            worker_init_fn=start_worker,
            # The loader draws its workers' seed from this. Nothing uses it, but the global source must stay untouched.
            generator=torch.Generator().manual_seed(self.seed),
        )


def default_workers(most: int, processes: int | None = None) -> int:
    """``most``, or this process's share of the cores where that is fewer; none on a single core.

    Args:
        most: Workers that keep up with a training process.
        processes: Training processes on this machine; None asks torchrun's environment.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // max(1, processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(most, share) if cores > 1 else 0
