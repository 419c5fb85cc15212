"""What every castlit data module shares: two-view training batches and fixed validation batches."""

import os
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import Unpack

from castlit.data.datamodules.datasets import EvalDataset, ViewDataset, collate, is_images, normalise
from castlit.data.datamodules.loader import ViewLoader, worker_options
from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.io.data_report import DataReport
from castlit.data.io.source import Sample, Source
from castlit.data.transforms.device_photometric import apply_draws
from castlit.data.transforms.photometric import ColourView
from castlit.data.transforms.views import LIMITS, TwoViews, ViewOptions
from castlit.utils.cores import available_cores
from castlit.utils.distributed import rank
from castlit.utils.validation import require_choice, require_int

Place = Literal["cpu", "device"]


class LoaderOptions(ViewOptions, total=False):
    """The keyword arguments of :class:`ViewsDataModule`, as its subclasses take them."""

    size: int
    batch_size: int
    seed: int
    workers: int | None
    val_resize: int | None
    photometric: Place


class ViewsDataModule(pl.LightningDataModule, ABC):
    """Turns sources of images into Lightning's loaders; a subclass says where the images come from.

    Training batches: ``{"query", "key"}`` float32 (N, 3, size, size), normalised by ImageNet's mean and standard
    deviation; ``{"query_mask", "key_mask"}`` uint8 (N, 1, size, size) of {0, 1}; ``"index"`` int64 (N,). Validation
    batches: ``"image"`` and ``"mask"`` likewise, ``"index"``, and ``"label"`` int64 (N,) only where there are labels.

    The last, incomplete training batch of an epoch is dropped, unless it is the only one; its images come up in other
    epochs. Under DDP each process makes its own share of the samples, and ``batch_size`` is that of one process. All
    draws come from (seed, epoch, index), so batches do not depend on the number of workers. A run that is resumed in
    the middle of an epoch goes on with the batch that would have come next.

    On an accelerator, images travel as bytes and become numbers there (a quarter of the transfer); iterate over the
    loaders by yourself, or train on a CPU, and they come as described.

    Args:
        size: Side of the views in pixels.
        batch_size: Samples per batch and process.
        seed: Seed of order, crops and colours, at least 0.
        workers: Loader processes per training process; 0 loads in the training process. None means ``most_workers``, or
            fewer where there are fewer cores for each training process.
        val_resize: Short side before validation's central crop of ``size``; None means 8/7 of ``size``.
        photometric: Where the training views get their colours: ``"cpu"``, in the workers; or ``"device"``, from the
            same draws, in batches, which takes that work off the workers (on a CPU it takes twenty times as long).
        **views: See :class:`castlit.data.transforms.views.TwoViews`.

    Raises:
        InputError: An argument is out of range.
    """

    most_workers = 2
    """Loader processes by default, where there are cores enough: scenes in memory need few."""

    def __init__(
        self,
        *,
        size: int = 224,
        batch_size: int = 256,
        seed: int = 0,
        workers: int | None = None,
        val_resize: int | None = None,
        photometric: Place = "cpu",
        **views: Unpack[ViewOptions],
    ) -> None:
        super().__init__()
        require_choice("photometric", photometric, ("cpu", "device"))
        self.views = TwoViews(size, defer=photometric == "device", **views)
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
        return ViewLoader(
            dataset,
            batch_size=self.batch_size,
            images_per_batch=self.batch_size * sampler.num_replicas,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            collate_fn=partial(collate, whole=sampler.num_replicas > 1, raw=self._raw or self.views.defer),
            **self._worker_options(),
        )

    def val_dataloader(self) -> DataLoader[Sample | None]:
        """Validation batches in fixed order."""
        _, source, indices = self.sources
        return DataLoader(
            EvalDataset(source, self.size, self.val_resize, indices),
            batch_size=self.batch_size,
            collate_fn=partial(collate, raw=self._raw),
            **self._worker_options(),
        )

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Turn bytes into numbers, and give the views their colours where that was left to the device."""
        return finish(batch, self.views.colours)

    def relaxed_crops(self) -> dict[str, int]:
        """How many training crops so far could not keep to a limit, which no box of their image could: by limit."""
        return dict(zip(LIMITS, self.views.relaxed.tolist(), strict=True))

    @property
    def run_folder(self) -> Path | None:
        """The trainer's folder, beside which reports belong; None without a trainer."""
        return None if self.trainer is None else Path(self.trainer.default_root_dir)

    def _cache_folder(self, given: str | Path | None) -> Path | None:
        """Where to keep what is found out about the data: as given, or beside the run; None where there is no run."""
        if given is not None:
            return Path(given).expanduser()
        return None if self.run_folder is None else self.run_folder / "castlit_index"

    def _report(self) -> DataReport | None:
        """A fresh ``data_report.csv`` in the run's folder, of the first process; None elsewhere."""
        return DataReport(self.run_folder / "data_report.csv") if self.run_folder is not None and rank() == 0 else None

    @property
    def _raw(self) -> bool:
        """Whether images go to the device as bytes."""
        return self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"

    def _worker_options(self) -> dict[str, Any]:
        processes = self.trainer.num_devices if self.trainer is not None else None
        workers = default_workers(self.most_workers, processes) if self.workers is None else self.workers
        return worker_options(workers, self.seed)


def finish(batch: dict[str, Tensor], colours: object) -> dict[str, Tensor]:
    """What is left to do with a batch on its device: colours from their draws, and numbers from bytes."""
    done = {name: x for name, x in batch.items() if not name.endswith("_colours")}
    for name in ("query", "key"):
        draws = batch.get(f"{name}_colours")
        if draws is not None and isinstance(colours, ColourView):
            done[name] = normalise(apply_draws(batch[name], draws, colours))
    return {name: normalise(x) if is_images(x) else x for name, x in done.items()}


def default_workers(most: int, processes: int | None = None) -> int:
    """``most``, or this process's share of the cores where that is fewer; none on a single core.

    Args:
        most: Workers that keep up with a training process.
        processes: Training processes on this machine; None asks torchrun's environment.
    """
    cores = available_cores()
    share = cores // max(1, processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(most, share) if cores > 1 else 0
