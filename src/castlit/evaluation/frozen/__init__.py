"""What protocols of frozen features share: lists of image files, and their features, kept on disk."""

from castlit.evaluation.frozen.class_folders import class_names, read_class_folders
from castlit.evaluation.frozen.features import FrozenFeatures
from castlit.evaluation.frozen.images import ImageList, Images

__all__ = ["FrozenFeatures", "ImageList", "Images", "class_names", "read_class_folders"]
