"""The protocol ``voc07``: linear SVMs on frozen features."""

from castlit.evaluation.voc07.average_precision import average_precision, eleven_point_precision
from castlit.evaluation.voc07.lists import VOC_CLASSES, VocLists, read_voc_lists
from castlit.evaluation.voc07.protocol import VARIANTS, evaluate_voc07
from castlit.evaluation.voc07.svm import ClassResult, classify

__all__ = [
    "VARIANTS",
    "VOC_CLASSES",
    "ClassResult",
    "VocLists",
    "average_precision",
    "classify",
    "eleven_point_precision",
    "evaluate_voc07",
    "read_voc_lists",
]
