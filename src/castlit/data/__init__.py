"""From images and masks to batches of two views."""

from castlit.data.adapter import AlbumentationsView
from castlit.data.base import ViewsDataModule, finish
from castlit.data.builtin import ArraySource, ScenesDataModule
from castlit.data.datasets import MEAN, STD, EvalDataset, ViewDataset, collate
from castlit.data.files import FileSource
from castlit.data.photometric import ColourView
from castlit.data.saliency import CocoDataModule, SaliencyDataModule
from castlit.data.sampling import EpochSampler
from castlit.data.shards import ShardsDataModule
from castlit.data.views import TwoViews

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
