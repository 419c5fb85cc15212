"""The base class of castlit's data modules: two-view training batches and fixed validation batches."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import Self, Unpack

from castlit.data.datamodules.datasets import EvalDataset, ViewDataset, collate, is_images, normalise
from castlit.data.datamodules.loader import ViewLoader, worker_options
from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.datamodules.worker_loader import WorkerLoader, require_shared_memory
from castlit.data.io.data_report import DataReport
from castlit.data.io.source import Sample, Source
from castlit.data.transforms.both_views import LIMITS
from castlit.data.transforms.choose_views import choose_views
from castlit.data.transforms.device_photometric import apply_draws
from castlit.data.transforms.photometric import ColourView
from castlit.data.transforms.views import ViewOptions
from castlit.utils.cores import available_cores
from castlit.utils.distributed import rank
from castlit.utils.lightning import pl
from castlit.utils.validation import require_choice, require_int

Place = Literal["cpu", "device", "auto"]


class LoaderOptions(ViewOptions, total=False):
    """The keyword arguments of :class:`ViewsDataModule`, for its subclasses."""

    size: int
    batch_size: int
    seed: int
    workers: int | None
    val_resize: int | None
    photometric: Place
    views: Mapping[str, Any] | None


class ViewsDataModule(pl.LightningDataModule, ABC):
    """Makes Lightning's loaders from sources of images; a subclass implements ``make_sources``.

    Training batches: ``{"query", "key"}`` float32 (N, 3, size, size), normalised by ImageNet's mean and standard
    deviation; ``{"query_mask", "key_mask"}`` uint8 (N, 1, size, size) of {0, 1}; ``"index"`` int64 (N,). Validation
    batches: ``"image"`` and ``"mask"`` likewise, ``"index"``, and ``"label"`` int64 (N,) if there are labels.

    The last, incomplete training batch of an epoch is dropped, unless it is the only one; the order changes with the
    epoch, so its images are used in others. Under DDP the processes share the samples, and ``batch_size`` is that of
    one process. All draws come from (seed, epoch, index), so batches do not depend on the number of workers. A run that
    resumes within an epoch continues with the next batch.

    With an accelerator, images are transferred as uint8 and normalised on the device, which is a quarter of the
    transfer. On a CPU, and in loops of your own over the loaders, they are normalised as described.

    Args:
        size: Side of the views in pixels.
        batch_size: Samples per batch and process.
        seed: Seed of order, crops and colour augmentation, at least 0.
        workers: Loader processes per training process; 0 loads in the training process. None means ``most_workers``, or
            fewer if there are fewer cores for each training process.
        val_resize: Short side before validation's central crop of ``size``; None means 8/7 of ``size``.
        photometric: Where colour augmentation is applied: ``"cpu"``, in the workers; or ``"device"``, to batches, with
            the same draws, which frees the workers (if the device is a CPU, it takes twenty times as long). ``"auto"``:
            on the device if it is a trainer's GPU and can apply the colours.
        views: The query's and the key's albumentations pipeline, ``{"query": ..., "key": ...}``, see
            :class:`castlit.data.TwoPipelines`; None means castlit's own crops.
        **options: See :class:`castlit.data.TwoViews`. With ``views``, those of the crops belong to their
            ``SaliencyCrop``, and ``colours`` and ``flip``, which then come after the pipelines, are off unless given.

    Raises:
        InputError: An argument is out of range.
    """

    most_workers = 2
    """Default number of loader processes, if there are enough cores; images in memory need few."""

    device: torch.device | None = None
    """Where the loaders' batches go, for loops without a trainer; None: the trainer's device.

    For one that is not the CPU, images are uint8, and :func:`castlit.data.finish` normalises them there.
    """

    def __init__(
        self,
        *,
        size: int = 224,
        batch_size: int = 256,
        seed: int = 0,
        workers: int | None = None,
        val_resize: int | None = None,
        photometric: Place = "cpu",
        views: Mapping[str, Any] | None = None,
        **options: Unpack[ViewOptions],
    ) -> None:
        super().__init__()
        self.photometric = require_choice("photometric", photometric, ("cpu", "device", "auto"))
        self.views = choose_views(size, views, options, defer=photometric == "device")
        self.size = self.views.size
        self.batch_size = require_int("batch_size", batch_size, 1)
        self.seed = require_int("seed", seed, 0, 2**32 - 1)
        self.workers = None if workers is None else require_int("workers", workers, 0)
        self.val_resize = None if val_resize is None else require_int("val_resize", val_resize, self.size)
        self._sources: tuple[Source, Source, NDArray[np.int64] | None] | None = None

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,  # noqa: ANN401
        hparams_file: str | Path | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Load a data module of your own from a checkpoint, as Lightning does, and run nothing that it brings along.

        Args:
            checkpoint_path: A file or a URL.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            weights_only: False runs any code in the file, as Lightning's default does for a URL.
            **kwargs: Arguments in place of the checkpoint's.
        """
        loader: Any = super().load_from_checkpoint
        module: Self = loader(checkpoint_path, map_location, hparams_file, weights_only is not False, **kwargs)
        return module

    @abstractmethod
    def make_sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """Return training images, validation images, and the indices of the latter to use (None: all). Called once."""

    @property
    def sources(self) -> tuple[Source, Source, NDArray[np.int64] | None]:
        """The result of ``make_sources``."""
        if self._sources is None:
            self._sources = self.make_sources()
        return self._sources

    @property
    def train_images(self) -> int:
        """The number of training images."""
        return len(self.sources[0])

    def setup(self, stage: str | None = None) -> None:
        """Create the sources, so that errors in the data are raised before training starts.

        Raises:
            InputError: The loaders' batches do not fit into the shared memory; or as in ``make_sources``.
        """
        _ = self.sources
        if self.photometric == "auto":
            on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
            self.views.defer = on_gpu and isinstance(self.views.colours, ColourView)
        pixel = 1 if self._raw or self.views.defer else 4
        batch = self.batch_size * 2 * self.size**2 * (3 * pixel + 1)
        devices = 1 if self.trainer is None else self.trainer.num_devices
        require_shared_memory(batch, devices * self._worker_options()["num_workers"])

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
        return WorkerLoader(
            EvalDataset(source, self.size, self.val_resize, indices),
            batch_size=self.batch_size,
            collate_fn=partial(collate, raw=self._raw),
            **self._worker_options(),
        )

    def predict_dataloader(self) -> DataLoader[Sample | None]:
        """The validation batches, for ``trainer.predict``."""
        return self.val_dataloader()

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Apply deferred colour augmentation, and normalise uint8 images."""
        finished = finish(batch, self.views.colours)
        if self.trainer is None:
            return finished
        # Lightning has converted floats to the trainer's precision before the images became floats.
        converted: dict[str, Tensor] = self.trainer.precision_plugin.convert_input(finished)
        return converted

    def relaxed_crops(self) -> dict[str, int]:
        """Number of training crops so far for which each limit was relaxed, as no box of the image satisfied it."""
        return dict(zip(LIMITS, self.views.relaxed.tolist(), strict=True))

    @property
    def run_folder(self) -> Path | None:
        """The trainer's folder, for reports; None without a trainer."""
        return None if self.trainer is None else Path(self.trainer.default_root_dir)

    def _cache_folder(self, given: str | Path | None) -> Path | None:
        """Folder for the index of the data: the given one, or one in the run's folder; None without a run."""
        if given is not None:
            return Path(given).expanduser()
        return None if self.run_folder is None else self.run_folder / "castlit_index"

    def _report(self) -> DataReport | None:
        """A new ``data_report.csv`` in the run's folder, for the first process; None for others, or without a run."""
        return DataReport(self.run_folder / "data_report.csv") if self.run_folder is not None and rank() == 0 else None

    @property
    def _raw(self) -> bool:
        """Whether images are transferred to the device as uint8."""
        device = self.device
        if device is None and self.trainer is not None:
            device = self.trainer.strategy.root_device
        return device is not None and device.type != "cpu"

    def _worker_options(self) -> dict[str, Any]:
        processes = self.trainer.num_devices if self.trainer is not None else None
        workers = default_workers(self.most_workers, processes) if self.workers is None else self.workers
        return worker_options(workers, self.seed)


def finish(batch: dict[str, Tensor], colours: object) -> dict[str, Tensor]:
    """Finish a batch on its device: apply deferred colour augmentation, and normalise uint8 images.

    Args:
        batch: A batch of one of castlit's loaders; a finished one is returned unchanged.
        colours: The views' colour augmentation, ``ViewsDataModule.views.colours``.
    """
    finished = {name: x for name, x in batch.items() if not name.endswith("_colours")}
    for name in ("query", "key"):
        draws = batch.get(f"{name}_colours")
        if draws is not None and isinstance(colours, ColourView):
            finished[name] = normalise(apply_draws(batch[name], draws, colours))
    return {name: normalise(x) if is_images(x) else x for name, x in finished.items()}


def default_workers(most: int, processes: int | None = None) -> int:
    """The number of loader processes: at most ``most``, and at most the cores per training process; 0 on one core.

    Args:
        most: Number of workers that is enough for a training process.
        processes: Training processes on this machine; None means ``LOCAL_WORLD_SIZE`` of torchrun's environment, or 1.
    """
    cores = available_cores()
    cores_each = cores // max(1, processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(most, cores_each) if cores > 1 else 0
