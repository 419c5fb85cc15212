"""From images and masks to batches of two views."""

from castlit.data.datamodules.base import ViewsDataModule, finish
from castlit.data.datamodules.datasets import EvalDataset, ViewDataset, collate
from castlit.data.datamodules.photographs import CocoDataModule, SaliencyDataModule
from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.datamodules.scenes import ArraySource, ScenesDataModule
from castlit.data.index.file_source import FileSource
from castlit.data.io.source import MEAN, STD
from castlit.data.shards import ShardsDataModule
from castlit.data.transforms.albumentations_view import AlbumentationsView
from castlit.data.transforms.photometric import ColourView
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
    "TwoViews",
    "ViewDataset",
    "ViewsDataModule",
    "collate",
    "finish",
]
