"""From images and masks to batches of two views.

Packages, each of which imports only those before it:

- ``io``: read images, masks and annotations from files; the ``Source`` interface.
- ``index``: the index of a folder, and ``FileSource``, which reads with it.
- ``transforms``: two views of an image: crops, flips, colour augmentation.
- ``scenes``: the built-in scenes; imports none of the others.
- ``datamodules``: samplers, datasets, loaders and Lightning's data modules.
- ``shards``: the same from tar files.
"""

from typing import TYPE_CHECKING

from castlit.utils.lazy import lazy_attribute

if TYPE_CHECKING:
    from castlit.data.datamodules.base import ViewsDataModule, finish
    from castlit.data.datamodules.coco import CocoDataModule
    from castlit.data.datamodules.datasets import EvalDataset, ViewDataset, collate
    from castlit.data.datamodules.photographs import SaliencyDataModule
    from castlit.data.datamodules.sampler import EpochSampler
    from castlit.data.datamodules.scenes import ScenesDataModule
    from castlit.data.index.file_source import FileSource
    from castlit.data.io.array_source import ArraySource
    from castlit.data.io.source import MEAN, STD
    from castlit.data.shards import ShardsDataModule
    from castlit.data.transforms.albumentations_view import AlbumentationsView
    from castlit.data.transforms.photometric import ColourView
    from castlit.data.transforms.two_pipelines import TwoPipelines
    from castlit.data.transforms.views import TwoViews

__all__ = [
    "MEAN",
    "STD",
    "AlbumentationsView",
    "ArraySource",
    "CocoDataModule",
    "ColourView",
    "EpochSampler",
    "EvalDataset",
    "FileSource",
    "SaliencyDataModule",
    "ScenesDataModule",
    "ShardsDataModule",
    "TwoPipelines",
    "TwoViews",
    "ViewDataset",
    "ViewsDataModule",
    "collate",
    "finish",
]

_HOMES = {
    "MEAN": "io.source",
    "STD": "io.source",
    "AlbumentationsView": "transforms.albumentations_view",
    "ArraySource": "io.array_source",
    "CocoDataModule": "datamodules.coco",
    "ColourView": "transforms.photometric",
    "EpochSampler": "datamodules.sampler",
    "EvalDataset": "datamodules.datasets",
    "FileSource": "index.file_source",
    "SaliencyDataModule": "datamodules.photographs",
    "ScenesDataModule": "datamodules.scenes",
    "ShardsDataModule": "shards",
    "TwoPipelines": "transforms.two_pipelines",
    "TwoViews": "transforms.views",
    "ViewDataset": "datamodules.datasets",
    "ViewsDataModule": "datamodules.base",
    "collate": "datamodules.datasets",
    "finish": "datamodules.base",
}


def __getattr__(name: str) -> object:
    return lazy_attribute(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return __all__
