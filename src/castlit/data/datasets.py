"""From sources of images to batches: the training dataset, the validation dataset, and their collation."""

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from castlit.crops import crop_resize, crop_resize_mask
from castlit.data.errors import SampleError
from castlit.data.sampling import sample_rng
from castlit.data.views import TwoViews
from castlit.nn.checks import require_int

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB in [0, 1]."""

Sample = dict[str, Any]


class Item(NamedTuple):
    """One image of a source."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    mask: NDArray[np.uint8] | None
    """(H, W), nonzero is salient; None where there is no mask."""
    label: int | None = None


class Source(Protocol):
    """Where images come from: files, or arrays in memory."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Item | None:
        """Image ``index``, or None where it cannot be had and the user chose to go on without it."""
        ...


class ViewDataset(Dataset[Sample | None]):
    """Training samples: two views of an image. Indexed by (epoch, index), or by index alone for epoch 0.

    Every draw comes from (seed, epoch, index), whichever worker makes the sample.

    Args:
        source: Where images come from.
        views: Makes the two views.
        seed: Seed of the draws, at least 0.
    """

    def __init__(self, source: Source, views: TwoViews, seed: int = 0) -> None:
        self.source = source
        self.views = views
        self.seed = require_int("seed", seed, 0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | None:
        """The sample, or None where its image cannot be had; ``collate`` leaves it out of the batch."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        item = self.source.read(index)
        if item is None:
            return None
        views = self.views(item.image, item.mask, sample_rng(self.seed, epoch, index))
        return {**views._asdict(), "index": index}


class EvalDataset(Dataset[Sample | None]):
    """Validation samples: the short side resized to ``resize``, then the central ``size`` × ``size``; nothing random.

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
        """The sample, or None where its image cannot be had."""
        index = int(self.indices[position])
        item = self.source.read(index)
        if item is None:
            return None
        height, width = item.image.shape[:2]
        # The central square of the resized image is a central square of the original: cut first, then resize once.
        side = max(1, round(min(height, width) * self.size / self.resize))
        x, y = (width - side) // 2, (height - side) // 2
        box = (x, y, x + side, y + side)
        mask = np.zeros((height, width), np.uint8) if item.mask is None else (item.mask != 0).view(np.uint8)
        size = (self.size, self.size)
        image, mask = crop_resize(item.image, box, size), crop_resize_mask(mask, box, size)
        sample = {"image": image, "mask": mask, "index": index}
        return sample if item.label is None else {**sample, "label": item.label}


def collate(samples: list[Sample | None], whole: bool = False) -> dict[str, Tensor]:
    """Stack samples into a batch.

    Images become float32 (N, 3, H, W), normalised by ImageNet's mean and standard deviation; masks uint8 (N, 1, H, W)
    of {0, 1}; numbers int64 (N,). Samples that could not be had (None) are left out.

    Args:
        samples: What the dataset gave.
        whole: Refuse to leave anything out. Training on several processes needs it: they exchange their batches, and
            batches of different lengths would leave them waiting for each other for ever.

    Raises:
        SampleError: None of the samples could be had; or, with ``whole``, one could not.
    """
    good = [sample for sample in samples if sample is not None]
    if whole and len(good) < len(samples):
        raise SampleError(
            "an image could not be read (see the log for its name), and several processes need whole batches"
        )
    if not good:
        raise SampleError(f"none of the {len(samples)} images of a batch could be read: see the log for their names")
    return {name: _stack([sample[name] for sample in good]) for name in good[0]}


def start_worker(worker_id: int) -> None:
    """Keep OpenCV to one thread in a worker process: the workers are the parallelism, and its threads dislike fork."""
    cv2.setNumThreads(0)


def _stack(values: list[Any]) -> Tensor:
    if not isinstance(values[0], np.ndarray):
        return torch.tensor(values, dtype=torch.int64)
    stacked = torch.from_numpy(np.stack(values))
    if stacked.ndim == 3:
        return stacked.unsqueeze(1)
    images = stacked.permute(0, 3, 1, 2).contiguous().float()
    # (x / 255 - mean) / std in two passes over the data
    scale = torch.tensor([1 / (255 * std) for std in STD]).view(3, 1, 1)
    shift = torch.tensor([mean / std for mean, std in zip(MEAN, STD, strict=True)]).view(3, 1, 1)
    return images.mul_(scale).sub_(shift)
