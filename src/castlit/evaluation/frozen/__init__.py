"""Frozen features, shared by several protocols: lists of image files, cached features, linear probe."""

from castlit.evaluation.frozen.class_folders import class_names, read_class_folders
from castlit.evaluation.frozen.features import FrozenFeatures
from castlit.evaluation.frozen.images import ImageList, Images
from castlit.evaluation.frozen.linear_probe import as_linear, linear_probe

__all__ = ["FrozenFeatures", "ImageList", "Images", "as_linear", "class_names", "linear_probe", "read_class_folders"]
