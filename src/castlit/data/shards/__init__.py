"""Images and masks in tar files of webdataset's format: read (``datamodule``, ``dataset``) and written (``write``)."""

from typing import TYPE_CHECKING

from castlit.utils.lazy import lazy_attribute

if TYPE_CHECKING:
    from castlit.data.shards.datamodule import ShardsDataModule

__all__ = ["ShardsDataModule"]

_HOMES = {
    "ShardsDataModule": "datamodule",
}


def __getattr__(name: str) -> object:
    return lazy_attribute(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return __all__
