"""Each image once, whole and at one size: what masks are made of while a run trains."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from castlit.crops import crop_resize
from castlit.data.datamodules.base import ViewsDataModule
from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Sample, Source
from castlit.data.transforms.views import for_crops
from castlit.utils.validation import InputError


class WholeImages(Dataset[Sample | None]):
    """Images squeezed to ``size`` × ``size``: nothing is cut off, and nothing is random.

    Args:
        source: Where they come from.
        size: Side in pixels.
    """

    def __init__(self, source: FileSource, size: int) -> None:
        self.source, self.size = source, size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample | None:
        """The image (size, size, 3) uint8 RGB and its ``index``; None where it cannot be had."""
        try:
            image = self.source.read_image(index)
            height, width = image.shape[:2]
            pixels, (box,) = for_crops(image, [(0, 0, width, height)], self.size)
            return {"image": crop_resize(pixels, box, (self.size, self.size)), "index": index}
        except SampleError as error:
            self.source.give_up(index, error)
            return None


def self_masked(data: object) -> list[tuple[FileSource, NDArray[np.int64]]]:
    """The images for which a run is to make masks: sources, and which of their images; empty where there are none.

    Args:
        data: Any data module.
    """
    if not isinstance(data, ViewsDataModule):
        return []
    train, val, sample = data.sources
    wanting = [(train, np.arange(len(train)))]
    if val is not train:
        wanting.append((val, np.arange(len(val)) if sample is None else sample))
    return [(source, which) for source, which in wanting if isinstance(source, FileSource) and source.own is not None]


def whole_loader(
    data: ViewsDataModule, source: FileSource, batches: Sequence[NDArray[np.int64]], size: int
) -> DataLoader[Sample | None]:
    """Batches of whole images: ``image`` uint8 (N, 3, size, size), ``index`` int64 (N,); None where none can be had.

    Args:
        data: Whose workers load them.
        source: Where they come from.
        batches: The numbers of each batch's images.
        size: Side in pixels.
    """
    return DataLoader(
        WholeImages(source, size),
        batch_sampler=[batch.tolist() for batch in batches],
        collate_fn=_collate,
        **{**data._worker_options(), "persistent_workers": False},
    )


def require_maker(source: Source) -> None:
    """Refuse to load images whose masks the run should make, where nobody is there to make them.

    Raises:
        InputError: As said.
    """
    if isinstance(source, FileSource) and source.own is not None and source.own.folder is None:
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
