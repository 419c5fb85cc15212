"""Saliency-constrained crops."""

from typing import TYPE_CHECKING

from castlit.crops.boxes import BoxSampler, sample_boxes
from castlit.crops.resize import crop_resize, crop_resize_mask

if TYPE_CHECKING:
    from castlit.crops.transform import SaliencyCrop

__all__ = ["BoxSampler", "SaliencyCrop", "crop_resize", "crop_resize_mask", "sample_boxes"]


def __getattr__(name: str) -> object:
    if name == "SaliencyCrop":  # imports albumentations, which takes a second that most programs need not spend
        from castlit.crops.transform import SaliencyCrop

        return SaliencyCrop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
