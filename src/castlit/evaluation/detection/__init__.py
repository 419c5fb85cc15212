"""Detection and instance segmentation: fine-tune torchvision's detectors from a backbone."""

from castlit.evaluation.detection.coco_layout import read_coco
from castlit.evaluation.detection.coco_segmentation import evaluate_coco_segmentation
from castlit.evaluation.detection.detectors import faster_rcnn_c4, faster_rcnn_fpn, mask_rcnn_fpn
from castlit.evaluation.detection.records import Annotated, Annotations
from castlit.evaluation.detection.scores import Detected, average_precision
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.detection.voc_detection import evaluate_voc_detection
from castlit.evaluation.detection.voc_layout import read_voc

__all__ = [
    "Annotated",
    "Annotations",
    "Detected",
    "DetectorSettings",
    "average_precision",
    "evaluate_coco_segmentation",
    "evaluate_voc_detection",
    "faster_rcnn_c4",
    "faster_rcnn_fpn",
    "mask_rcnn_fpn",
    "read_coco",
    "read_voc",
]
