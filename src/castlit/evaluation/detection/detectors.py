"""The papers' detectors, made of torchvision's parts around any ResNet."""

from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from castlit.evaluation.detection.heads import ExactPredictor, ExactRPNHead, PyramidTrunk, Res5Head, TrunkC4
from castlit.evaluation.detection.roi_align import AlignedRoIAlign
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.detection.stages import LAYERS, stages

RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios of the anchors."""

_BOX_HEAD_CHANNELS = 1024  # with a feature pyramid


def faster_rcnn_c4(
    backbone: nn.Module, classes: int, settings: DetectorSettings, name: str = "the backbone"
) -> FasterRCNN:
    """Faster R-CNN with a C4 trunk: proposals are made on ``layer3``, and ``layer4`` is the head for each.

    An extra norm follows ``layer4`` (He et al., CVPR 2020), and nothing is frozen, including batch norms. The rest
    follows Detectron2's R50-C4: boxes are pooled to 14 × 14; for 1,000 proposals, the best 6,000 in the test and twice
    as many in training go into suppression. The losses are torchvision's (for boxes smooth L1, β = 1/9).

    Args:
        backbone: A ResNet, see :func:`castlit.evaluation.detection.stages.stages`; it is copied.
        classes: Number of classes, without the background.
        settings: Image sizes, anchors and numbers of proposals.
        name: What messages call the backbone.

    Raises:
        InputError: The backbone is no ResNet.
    """
    found = stages(backbone, name)
    # The trunk before the head: a Sequential takes ownership of its parts.
    trunk, head = found.upto("layer3"), found.parts["layer4"]
    return FasterRCNN(
        TrunkC4(trunk, found.channels[2]),
        rpn_anchor_generator=AnchorGenerator((tuple(settings.anchors),), (RATIOS,)),
        rpn_head=ExactRPNHead(found.channels[2], len(settings.anchors) * len(RATIOS)),
        # Before and after suppression.
        rpn_pre_nms_top_n_train=12 * settings.proposals,
        rpn_pre_nms_top_n_test=6 * settings.proposals,
        rpn_post_nms_top_n_train=2 * settings.proposals,
        rpn_post_nms_top_n_test=settings.proposals,
        box_roi_pool=AlignedRoIAlign(found.strides[2:3], 14),
        box_head=Res5Head(head, found.channels[3]),
        box_predictor=ExactPredictor(found.channels[3], classes),
        **_sizes(settings),
    )


def faster_rcnn_fpn(
    backbone: nn.Module, classes: int, settings: DetectorSettings, name: str = "the backbone"
) -> FasterRCNN:
    """Faster R-CNN on a feature pyramid, with batch norm in the pyramid; arguments as :func:`faster_rcnn_c4`."""
    return FasterRCNN(**_pyramid(backbone, classes, settings, name), **_sizes(settings))


def mask_rcnn_fpn(
    backbone: nn.Module, classes: int, settings: DetectorSettings, name: str = "the backbone"
) -> MaskRCNN:
    """Mask R-CNN (He et al., 2017) on a feature pyramid with batch norm; arguments as :func:`faster_rcnn_c4`."""
    parts = _pyramid(backbone, classes, settings, name)
    return MaskRCNN(
        **parts,
        mask_roi_pool=AlignedRoIAlign(parts["box_roi_pool"].strides, 14),
        mask_predictor=MaskRCNNPredictor(256, 256, classes + 1),
        **_sizes(settings),
    )


def _pyramid(backbone: nn.Module, classes: int, settings: DetectorSettings, name: str) -> dict[str, Any]:
    settings.require_pyramid_anchors()
    found = stages(backbone, name)
    trunk = PyramidTrunk(found.upto("layer4"), LAYERS, found.channels)
    anchors = tuple((side,) for side in settings.anchors)
    return {
        "backbone": trunk,
        "rpn_anchor_generator": AnchorGenerator(anchors, (RATIOS,) * len(anchors)),
        "rpn_head": ExactRPNHead(trunk.out_channels, len(RATIOS)),
        # Per level before suppression, in total after it; Detectron2's numbers for 1,000.
        "rpn_pre_nms_top_n_train": 2 * settings.proposals,
        "rpn_pre_nms_top_n_test": settings.proposals,
        "rpn_post_nms_top_n_train": settings.proposals,
        "rpn_post_nms_top_n_test": settings.proposals,
        "box_roi_pool": AlignedRoIAlign(found.strides, 7),
        "box_head": TwoMLPHead(trunk.out_channels * 7**2, _BOX_HEAD_CHANNELS),
        "box_predictor": ExactPredictor(_BOX_HEAD_CHANNELS, classes),
    }


def _sizes(settings: DetectorSettings) -> dict[str, Any]:
    return {
        "min_size": tuple(settings.min_size),
        "max_size": settings.max_size,
        "box_batch_size_per_image": settings.boxes,
    }
