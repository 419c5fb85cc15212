"""Saliency-constrained crops."""

from castlit.crops.boxes import BoxSampler, sample_boxes
from castlit.crops.resize import crop_resize, crop_resize_mask
from castlit.crops.transform import SaliencyCrop

__all__ = ["BoxSampler", "SaliencyCrop", "crop_resize", "crop_resize_mask", "sample_boxes"]
