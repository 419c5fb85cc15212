"""The training dataset, the validation dataset, and their collation into batches."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from castlit.crops import crop_resize, crop_resize_mask
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.io.errors import SampleError
from castlit.data.io.source import MEAN, STD, Item, Sample, Source
from castlit.data.transforms.both_views import BothViews
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.utils.validation import require_int


class ViewDataset(Dataset[Sample | None]):
    """Training samples: two views of an image. Indexed by (epoch, index), or by index alone for epoch 0.

    Every draw comes from (seed, epoch, index), whatever worker makes the sample.

    Args:
        source: Where images come from.
        views: Makes the two views.
        seed: Seed of the draws, at least 0.
    """

    def __init__(self, source: Source, views: BothViews, seed: int = 0) -> None:
        self.source = source
        self.views = views
        self.seed = require_int("seed", seed, 0, 2**32 - 1)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | None:
        """The sample, or None if its image cannot be read; ``collate`` leaves it out of the batch."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        try:
            item = self.source.read(index)
            return view_sample(self.views, item, self.seed, epoch, index)
        except SampleError as error:
            self.source.give_up(index, error)
            return None


def view_sample(views: BothViews, item: Item, seed: int, epoch: int, index: int) -> Sample:
    """The training sample of an image: its two views with their masks, and ``index``.

    Raises:
        SampleError: The image cannot be decoded.
    """
    both = views(item.image, item.mask, sample_rng(seed, epoch, index))
    return {**{name: value for name, value in both._asdict().items() if value is not None}, "index": index}


class EvalDataset(Dataset[Sample | None]):
    """Validation samples: the short side resized to ``resize``, then a central crop of ``size`` × ``size``.

    Args:
        source: Where images come from.
        size: Side of the result in pixels.
        resize: Length of the short side before the crop, at least ``size``; None means 8/7 of ``size`` (256 for 224).
        indices: Which images of the source, in order; None means all.
    """

    def __init__(
        self, source: Source, size: int, resize: int | None = None, indices: NDArray[np.int64] | None = None
    ) -> None:
        self.source = source
        self.size = require_int("size", size, 1)
        self.resize = require_int("resize", round(size * 8 / 7) if resize is None else resize, size)
        self.indices = np.arange(len(source)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample | None:
        """The sample, or None if its image cannot be read."""
        index = int(self.indices[position])
        try:
            return self._central(self.source.read(index), index)
        except SampleError as error:
            self.source.give_up(index, error)
            return None

    def _central(self, item: Item, index: int) -> Sample:
        height, width = item.image.shape[:2]
        # Crop before resizing: the result is the same, and only the crop is resized.
        side = max(1, round(min(height, width) * self.size / self.resize))
        x, y = (width - side) // 2, (height - side) // 2
        box = (x, y, x + side, y + side)
        mask = np.zeros((height, width), np.uint8) if item.mask is None else (item.mask != 0).view(np.uint8)
        size = (self.size, self.size)
        pixels, (pixel_box,) = decode_for_crops(item.image, [box], self.size)
        view, view_mask = crop_resize(pixels, pixel_box, size), crop_resize_mask(mask, box, size)
        sample = {"image": view, "mask": view_mask, "index": index}
        return sample if item.label is None else {**sample, "label": item.label}


def collate(samples: Sequence[Sample | None], whole: bool = False, raw: bool = False) -> dict[str, Tensor]:
    """Stack samples into a batch.

    Images become float32 (N, 3, H, W), normalised by ImageNet's mean and standard deviation; masks uint8 (N, 1, H, W)
    of {0, 1}; integers int64 (N,); other arrays are stacked. Samples that could not be read (None) are left out.

    Args:
        samples: Samples of the dataset.
        whole: Keep the number of samples: replace those that could not be read by second copies of others. Training on
            several processes needs it, as all their batches must have the same size.
        raw: Leave images uint8, for :func:`normalise` on the device.

    Raises:
        SampleError: None of the samples could be read.
    """
    good = [sample for sample in samples if sample is not None]
    if not good:
        raise SampleError(f"none of the {len(samples)} images of a batch could be read: see the log for their names")
    if whole:
        good = [good[i % len(good)] for i in range(len(samples))]
    return {name: _stack([sample[name] for sample in good], raw) for name in good[0]}


def normalise(images: Tensor) -> Tensor:
    """Convert images (N, 3, H, W) in [0, 255] to float32, normalised by ImageNet's mean and standard deviation."""
    # (x / 255 - mean) / std in two passes over the data
    scale, shift = _constants(images.device)
    return images.float().mul_(scale).sub_(shift)


@lru_cache(maxsize=16)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift, cached on the device: copying them for every batch would make the host wait."""
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * std) for std in STD])
        shift = torch.tensor([mean / std for mean, std in zip(MEAN, STD, strict=True)])
        return scale.view(3, 1, 1).to(device), shift.view(3, 1, 1).to(device)


def is_images(x: Tensor) -> bool:
    """Whether this part of a batch is uint8 images, which are not yet normalised."""
    return x.dtype == torch.uint8 and x.ndim == 4 and x.shape[1] == 3


def images_on(images: Tensor, device: torch.device) -> Tensor:
    """Copy a batch's images to a device, without waiting for the copy, and normalise them there if they are bytes.

    Args:
        images: (N, 3, H, W), from :func:`collate`: uint8 if ``raw``, or normalised.
        device: Where the network is. For one that is not the CPU collate them ``raw``: a quarter of the copy.
    """
    moved = images.to(device, non_blocking=True)
    return normalise(moved) if is_images(moved) else moved


def _stack(values: list[Any], raw: bool) -> Tensor:
    if not isinstance(values[0], np.ndarray):
        return torch.tensor(values, dtype=torch.int64)
    if values[0].ndim == 3 and not raw:
        return _normalised(values)
    stacked = torch.from_numpy(np.stack(values))
    if stacked.ndim == 3:
        return stacked.unsqueeze(1)
    # channels_last in memory: no copy, and fast convolutions on a GPU.
    return stacked.permute(0, 3, 1, 2) if stacked.ndim == 4 else stacked


def _normalised(images: list[NDArray[np.uint8]]) -> Tensor:
    """Like ``normalise``, for images (H, W, 3) on the CPU; plane by plane, which takes half the time."""
    batch = np.empty((len(images), 3, *images[0].shape[:2]), np.float32)
    for numbers, image in zip(batch, images, strict=True):
        for out, plane, mean, std in zip(numbers, cv2.split(image), MEAN, STD, strict=True):
            cv2.addWeighted(plane, 1 / (255 * std), plane, 0, -mean / std, dst=out, dtype=cv2.CV_32F)
    return torch.from_numpy(batch)
