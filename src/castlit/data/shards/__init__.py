"""Images and masks in tar files, for data that outgrows a disk of files (webdataset's format)."""

from castlit.data.shards.datamodule import ShardsDataModule

__all__ = ["ShardsDataModule"]
