"""The papers' detectors on torchvision's blocks, around any ResNet."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from castlit.evaluation.detection.heads import ExactPredictor, ExactRPNHead, PyramidTrunk, Res5Head, TrunkC4
from castlit.evaluation.detection.pooling import AlignedRoIAlign
from castlit.evaluation.detection.stages import LAYERS, stages

ANCHORS = (32, 64, 128, 256, 512)
"""Sides of the anchors in pixels."""

RATIOS = (0.5, 1.0, 2.0)

_TWO_LAYERS = 1024  # channels of the pyramid's box head


def faster_rcnn_c4(
    backbone: nn.Module,
    classes: int,
    min_size: Sequence[int],
    max_size: int,
    anchors: Sequence[int] = ANCHORS,
    boxes: int = 512,
    proposals: int = 1000,
    name: str = "the backbone",
) -> FasterRCNN:
    """Faster R-CNN with a C4 trunk: ``layer3`` is what proposals are made on, ``layer4`` is the head for each.

    An extra norm follows ``layer4`` (He et al., CVPR 2020), and nothing is frozen, batch norms included. What else is
    set follows Detectron2's R50-C4: boxes are pooled to 14 × 14; of 1,000 proposals, these are what is left of the best
    6,000 in the test, and twice as many in training. The losses are torchvision's (of boxes smooth L1, β = 1/9).

    Args:
        backbone: A ResNet, see :func:`castlit.evaluation.detection.stages.stages`; it is copied.
        classes: How many, without the background.
        min_size: Short sides in pixels; one of them is drawn for each training image, the last is the test's.
        max_size: Bound on the long side.
        anchors: Sides of the anchors in pixels.
        boxes: Proposals of each training image that the head learns from.
        proposals: Proposals of each image of the test that the head sees.
        name: What messages call the backbone.

    Raises:
        InputError: It is no ResNet.
    """
    found = stages(backbone, name)
    # All of them first: a Sequential takes the parts over.
    trunk, head = found.upto("layer3"), found.parts["layer4"]
    return FasterRCNN(
        TrunkC4(trunk, found.channels[2]),
        rpn_anchor_generator=AnchorGenerator((tuple(anchors),), (RATIOS,)),
        rpn_head=ExactRPNHead(found.channels[2], len(anchors) * len(RATIOS)),
        # Before suppression, and after it.
        rpn_pre_nms_top_n_train=12 * proposals,
        rpn_pre_nms_top_n_test=6 * proposals,
        rpn_post_nms_top_n_train=2 * proposals,
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=boxes,
        box_roi_pool=AlignedRoIAlign(found.strides[2:3], 14),
        box_head=Res5Head(head, found.channels[3]),
        box_predictor=ExactPredictor(found.channels[3], classes),
        min_size=tuple(min_size),
        max_size=max_size,
    )


def faster_rcnn_fpn(
    backbone: nn.Module,
    classes: int,
    min_size: Sequence[int],
    max_size: int,
    anchors: Sequence[int] = ANCHORS,
    boxes: int = 512,
    proposals: int = 1000,
    name: str = "the backbone",
) -> FasterRCNN:
    """Faster R-CNN on a feature pyramid, with batch norm in the pyramid; arguments as :func:`faster_rcnn_c4`."""
    return FasterRCNN(
        **_pyramid(backbone, anchors, boxes, proposals, name, classes),
        min_size=tuple(min_size),
        max_size=max_size,
    )


def mask_rcnn_fpn(
    backbone: nn.Module,
    classes: int,
    min_size: Sequence[int],
    max_size: int,
    anchors: Sequence[int] = ANCHORS,
    boxes: int = 512,
    proposals: int = 1000,
    name: str = "the backbone",
) -> MaskRCNN:
    """Mask R-CNN (He et al., 2017) on a feature pyramid with batch norm; arguments as :func:`faster_rcnn_c4`."""
    parts = _pyramid(backbone, anchors, boxes, proposals, name, classes)
    return MaskRCNN(
        **parts,
        mask_roi_pool=AlignedRoIAlign(parts["box_roi_pool"].strides, 14),
        mask_predictor=MaskRCNNPredictor(256, 256, classes + 1),
        min_size=tuple(min_size),
        max_size=max_size,
    )


def _pyramid(
    backbone: nn.Module, anchors: Sequence[int], boxes: int, proposals: int, name: str, classes: int
) -> dict[str, Any]:
    found = stages(backbone, name)
    trunk = PyramidTrunk(found.upto("layer4"), LAYERS, found.channels)
    sizes = tuple((side,) for side in anchors)
    return {
        "backbone": trunk,
        "rpn_anchor_generator": AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        "rpn_head": ExactRPNHead(trunk.out_channels, len(RATIOS)),
        # Before suppression of each level, and after it of all; Detectron2's numbers for 1,000.
        "rpn_pre_nms_top_n_train": 2 * proposals,
        "rpn_pre_nms_top_n_test": proposals,
        "rpn_post_nms_top_n_train": proposals,
        "rpn_post_nms_top_n_test": proposals,
        "box_batch_size_per_image": boxes,
        "box_roi_pool": AlignedRoIAlign(found.strides, 7),
        "box_head": TwoMLPHead(trunk.out_channels * 7**2, _TWO_LAYERS),
        "box_predictor": ExactPredictor(_TWO_LAYERS, classes),
    }
