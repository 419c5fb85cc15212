"""Images and masks in tar files of webdataset's format: read (``datamodule``, ``dataset``) and written (``write``)."""

from castlit.data.shards.datamodule import ShardsDataModule

__all__ = ["ShardsDataModule"]
