"""Full images at one size, each once: the input from which a run makes its own masks."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from castlit.crops import crop_resize
from castlit.data.datamodules.base import ViewsDataModule
from castlit.data.datamodules.worker_loader import WorkerLoader
from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Sample, Source
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.utils.validation import InputError


class FullImages(Dataset[Sample | None]):
    """Full images, resized to ``size`` × ``size`` without keeping their aspect ratio; nothing is random.

    Args:
        source: Where images come from.
        size: Side in pixels.
    """

    def __init__(self, source: FileSource, size: int) -> None:
        self.source, self.size = source, size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample | None:
        """``image`` (size, size, 3) uint8 RGB and ``index``; None if the image cannot be read."""
        try:
            image = self.source.read_image(index)
            height, width = image.shape[:2]
            pixels, (box,) = decode_for_crops(image, [(0, 0, width, height)], self.size)
            return {"image": crop_resize(pixels, box, (self.size, self.size)), "index": index}
        except SampleError as error:
            self.source.give_up(index, error)
            return None


def self_masked_sources(data: object) -> list[tuple[FileSource, NDArray[np.int64]]]:
    """The sources whose masks the run makes (``masks="self"``), each with the indices of the images that need one.

    Args:
        data: Any data module; without such sources, the list is empty.
    """
    if not isinstance(data, ViewsDataModule):
        return []
    train, val, val_indices = data.sources
    sources = [(train, np.arange(len(train)))]
    if val is not train:
        sources.append((val, np.arange(len(val)) if val_indices is None else val_indices))
    return [
        (source, indices)
        for source, indices in sources
        if isinstance(source, FileSource) and source.mask_store is not None
    ]


def full_image_loader(
    data: ViewsDataModule, source: FileSource, batches: Sequence[NDArray[np.int64]], size: int
) -> DataLoader[Sample | None]:
    """Batches of full images: ``image`` uint8 (N, 3, size, size), ``index`` int64 (N,); None if none can be read.

    Args:
        data: The data module, whose number of workers is used.
        source: Where images come from.
        batches: Indices of the images of each batch.
        size: Side in pixels.
    """
    return WorkerLoader(
        FullImages(source, size),
        batch_sampler=[batch.tolist() for batch in batches],
        collate_fn=_collate,
        **{**data._worker_options(), "persistent_workers": False},
    )


def require_mask_maker(source: Source) -> None:
    """Check that a callback makes the masks of a source with ``masks="self"``.

    Raises:
        InputError: There is no such callback.
    """
    if isinstance(source, FileSource) and source.mask_store is not None and source.mask_store.folder is None:
        raise InputError(
            "masks=self are made while a run trains, by castlit.callbacks.SelfMasks (callbacks.self_masks), which is "
            "not there: give a folder of masks, such as self_masks/epoch_20/train in a run's folder"
        )


def _collate(samples: list[Sample | None]) -> dict[str, torch.Tensor] | None:
    good = [sample for sample in samples if sample is not None]
    if not good:
        return None
    images = torch.from_numpy(np.stack([sample["image"] for sample in good]))
    return {"image": images.permute(0, 3, 1, 2), "index": torch.tensor([sample["index"] for sample in good])}
