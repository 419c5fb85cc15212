"""Annotated images as batches for torchvision's detectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from castlit.data.datamodules.base import default_workers
from castlit.data.datamodules.loader import ViewLoader, worker_options
from castlit.data.datamodules.sampler import EpochSampler, sample_rng
from castlit.data.datamodules.worker_loader import WorkerLoader
from castlit.data.io.errors import MismatchError
from castlit.data.io.images import read_image
from castlit.evaluation.detection.coco_layout import object_masks
from castlit.evaluation.detection.records import Annotated
from castlit.utils.distributed import world_size
from castlit.utils.validation import InputError

Sample = dict[str, Any]
Batch = dict[str, Any]

_MOST_WORKERS = 8


class DetectionDataset(Dataset[Sample]):
    """Images and their targets; mirrored with probability ½ in training.

    Args:
        records: The images.
        seed: Seed of mirroring, together with the epoch.
        train: Whether samples have targets.
        masks: Whether targets have masks.
    """

    def __init__(self, records: list[Annotated], seed: int, train: bool, masks: bool) -> None:
        self.records, self.seed, self.train, self.masks = records, seed, train, masks

    def __len__(self) -> int:
        return len(self.records)

    def image_path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.records[index].path

    def __getitem__(self, key: tuple[int, int] | int) -> Sample:
        """Return the sample of an (epoch, index) pair: image (3, H, W) uint8, its index and number, and the target.

        Raises:
            SampleError: The image cannot be read or differs in size from its annotation, or a segmentation is invalid.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        record = self.records[index]
        image = read_image(record.path)
        if image.shape[:2] != (record.height, record.width):
            raise MismatchError(
                f"{record.path}: is of {image.shape[1]} x {image.shape[0]} px, but its annotation says "
                f"{record.width} x {record.height}"
            )
        sample: Sample = {"index": index, "number": record.number}
        mirrored = self.train and sample_rng(self.seed, epoch, index).random() < 0.5
        if self.train:
            sample["target"] = self._target(record.only(record.learnt), mirrored)
        pixels = image[:, ::-1] if mirrored else image
        sample["image"] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return sample

    def _target(self, record: Annotated, mirrored: bool) -> dict[str, Tensor]:
        boxes = record.boxes
        if mirrored:
            left, top, right, bottom = boxes.T
            boxes = np.stack([record.width - right, top, record.width - left, bottom], 1)
        target = {"boxes": torch.from_numpy(np.array(boxes)), "labels": torch.from_numpy(record.labels)}
        if self.masks and record.segments is not None:
            masks = object_masks(record)
            target["masks"] = torch.from_numpy(np.ascontiguousarray(masks[:, :, ::-1] if mirrored else masks))
        return target


class DetectionData(pl.LightningDataModule):
    """Training batches in random order, and test batches in fixed order.

    A batch holds lists, as images differ in size: ``images`` of (3, H, W) uint8 tensors, ``targets`` (training only) of
    dictionaries, and the tensors ``index`` and ``number``. Each process loads its part of the batch.

    Args:
        train: Images to train on.
        test: Images to test on.
        batch_size: Images in a training batch, over all processes.
        seed: Seed of order and mirroring.
        workers: Loader processes per process; None: eight, or fewer where there are fewer cores.
        masks: Whether targets have masks.
    """

    def __init__(
        self,
        train: list[Annotated],
        test: list[Annotated],
        batch_size: int,
        seed: int = 0,
        workers: int | None = None,
        masks: bool = False,
    ) -> None:
        super().__init__()
        self.sets = (DetectionDataset(train, seed, True, masks), DetectionDataset(test, seed, False, False))
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    @property
    def sources(self) -> tuple[DetectionDataset, DetectionDataset]:
        """The datasets, for messages that name images."""
        return self.sets

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled batches; an incomplete last batch is dropped unless it is the only one.

        Raises:
            InputError: The batch cannot be shared equally among the processes.
        """
        each, rest = divmod(self.batch_size, world_size())
        if rest or not each:
            raise InputError(f"batch_size={self.batch_size} cannot be shared equally among {world_size()} processes")
        sampler = EpochSampler(self.sets[0], seed=self.seed)
        return ViewLoader(
            self.sets[0],
            batch_size=each,
            images_per_batch=self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= each,
            collate_fn=collate,
            **self._worker_options(),
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """The test images, one by one."""
        sampler = EpochSampler(self.sets[1], shuffle=False)
        return WorkerLoader(self.sets[1], 1, sampler=sampler, collate_fn=collate, **self._worker_options())

    def _worker_options(self) -> dict[str, Any]:
        processes = self.trainer.num_devices if self.trainer is not None else None
        workers = default_workers(_MOST_WORKERS, processes) if self.workers is None else self.workers
        return worker_options(workers, self.seed)


def collate(samples: list[Sample]) -> Batch:
    """Collate samples into a batch, see :class:`DetectionData`."""
    batch: Batch = {name: torch.tensor([sample[name] for sample in samples]) for name in ("index", "number")}
    batch["images"] = [sample["image"] for sample in samples]
    if "target" in samples[0]:
        batch["targets"] = [sample["target"] for sample in samples]
    return batch
