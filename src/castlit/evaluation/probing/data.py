"""Batches to train a classifier on, with random crops and flips, and to test it on."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from castlit.crops import BoxSampler, crop_resize
from castlit.data import EpochSampler, EvalDataset, collate, finish
from castlit.data.datamodules.base import default_workers
from castlit.data.datamodules.loader import ViewLoader, worker_options
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.datamodules.worker_loader import WorkerLoader
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Sample, Source
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.utils.distributed import world_size
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError

_BOXES = BoxSampler(0.0, (0.08, 1.0), law="resized_crop")


class _Cropped(Dataset[Sample | None]):
    """Random crops of 8 to 100 % of an image, flipped with probability ½; indexed by (epoch, position)."""

    def __init__(self, source: Source, size: int, indices: NDArray[np.int64], seed: int) -> None:
        self.source, self.size, self.indices, self.seed = source, size, indices, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | None:
        epoch, position = key if isinstance(key, tuple) else (0, key)
        index = int(self.indices[position])
        try:
            item = self.source.read(index)
            rng = sample_rng(self.seed, epoch, index)
            (box,) = _BOXES(np.zeros(item.image.shape[:2], np.bool_), 1, rng)
            pixels, (shown,) = decode_for_crops(item.image, [box], self.size)
            image = crop_resize(pixels, shown, (self.size, self.size))
            if rng.random() < 0.5:
                image = np.ascontiguousarray(image[:, ::-1])
            return {"image": image, "label": item.label, "index": index}
        except SampleError as error:
            self.source.give_up(index, error)
            return None


class _Central(EvalDataset):
    """Images as validation shows them, indexed by (epoch, position)."""

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | None:
        sample = super().__getitem__(key[1] if isinstance(key, tuple) else key)
        return None if sample is None else {name: value for name, value in sample.items() if name != "mask"}


class ProbeData(pl.LightningDataModule):
    """Training and test batches: ``image`` (N, 3, size, size) normalised, ``label`` and ``index`` (N,).

    Args:
        train: Images to train on; each must have a label.
        val: Images to test on.
        indices: Indices of the training images to use.
        size: Side of the network's input in pixels.
        resize: Length of the short side of a test image before the central crop; None: 8/7 of ``size``.
        batch_size: Training images per step, over all processes.
        seed: Seed of order and crops.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
    """

    def __init__(
        self,
        train: Source,
        val: Source,
        indices: NDArray[np.int64],
        size: int,
        resize: int | None,
        batch_size: int,
        seed: int,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        self.train, self.val = _Cropped(train, size, indices, seed), _Central(val, size, resize)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; an incomplete last batch is dropped unless it is the only one."""
        sampler = EpochSampler(self.train, seed=self.seed)
        each = self._each()
        return ViewLoader(
            self.train,
            batch_size=each,
            images_per_batch=each * sampler.num_replicas,
            sampler=sampler,
            drop_last=len(sampler) >= each,
            collate_fn=partial(collate, whole=True, raw=self._raw),
            **self._options(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """All test images in order, divided among the processes."""
        sampler = EpochSampler(self.val, shuffle=False)
        together = partial(collate, raw=self._raw)
        return WorkerLoader(self.val, self._each(), sampler=sampler, collate_fn=together, **self._options())

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Normalise images that were transferred as bytes."""
        return finish(batch, colours=None)

    @property
    def _raw(self) -> bool:
        """Whether images are transferred to the device as bytes, as in training."""
        return self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"

    def _each(self) -> int:
        if self.batch_size % world_size():
            raise InputError(f"protocol.batch_size={self.batch_size} cannot be shared by {world_size()} processes")
        return self.batch_size // world_size()

    def _options(self) -> dict[str, Any]:
        processes = self.trainer.num_devices if self.trainer is not None else None
        workers = default_workers(8, processes) if self.workers is None else self.workers
        return worker_options(workers, self.seed)
