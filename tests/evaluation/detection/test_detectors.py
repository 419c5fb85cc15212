"""The detectors' parts: stages of a ResNet, pooling, precision, trainable parameters."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import roi_align

from castlit.evaluation.detection import DetectorSettings, faster_rcnn_c4, faster_rcnn_fpn, mask_rcnn_fpn
from castlit.evaluation.detection.roi_align import AlignedRoIAlign
from castlit.evaluation.detection.stages import stages
from castlit.nn import build_backbone
from castlit.utils.validation import InputError

SMALL = DetectorSettings(1, (), 0, [96], 128, anchors=(16, 24, 32, 48, 64), boxes=8, proposals=20)
MAKERS = [faster_rcnn_c4, faster_rcnn_fpn, mask_rcnn_fpn]


def sample():
    masks = torch.zeros(1, 96, 96, dtype=torch.uint8)
    masks[:, 10:60, 20:70] = 1
    target = {"boxes": torch.tensor([[20.0, 10, 70, 60]]), "labels": torch.tensor([1]), "masks": masks}
    return [torch.rand(3, 96, 96)], [target]


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet50", (256, 512, 1024, 2048), (4, 8, 16, 32)),
        ("resnet18", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("tiny_resnet", (32, 64, 96, 128), (4, 8, 8, 8)),
    ],
)
def test_stages_compute_the_same(name, channels, strides):
    backbone = build_backbone(name).eval()
    found = stages(backbone)
    assert (found.channels, found.strides) == (channels, strides)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(found.upto("layer4").eval()(images), backbone(images))
    assert "layer4" not in dict(found.upto("layer3").named_children())


def test_backbone_is_copied():
    backbone = build_backbone("tiny_resnet").eval().requires_grad_(False)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    detector = faster_rcnn_c4(backbone, 2, SMALL)
    # Nothing is frozen, batch norms included; the copy is in training mode.
    assert all(parameter.requires_grad for parameter in detector.parameters())
    assert all(part.training for part in detector.modules() if isinstance(part, nn.BatchNorm2d))
    sum(detector(*sample()).values()).backward()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.training
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["vit_b_16", "mobilenet_v3_small"])
def test_non_resnets_are_refused(name):
    with pytest.raises(InputError, match=r"^x.ckpt is no ResNet: .*backbone=resnet50"):
        faster_rcnn_fpn(build_backbone(name), 2, SMALL, "x.ckpt")


def test_network_beyond_its_stages_is_refused():
    class Twice(type(build_backbone("tiny_resnet"))):
        def forward(self, x):
            return 2 * super().forward(x)

    backbone = build_backbone("tiny_resnet")
    backbone.__class__ = Twice
    with pytest.raises(InputError, match=r"computes more than its parts"):
        stages(backbone)


@pytest.mark.parametrize("maker", MAKERS)
def test_all_parameters_get_gradients(maker):
    torch.manual_seed(0)
    detector = maker(build_backbone("tiny_resnet"), 3, SMALL).train()
    losses = detector(*sample())
    assert ("loss_mask" in losses) == (maker is mask_rcnn_fpn)
    sum(losses.values()).backward()
    assert [name for name, parameter in detector.named_parameters() if parameter.grad is None] == []
    with torch.no_grad():
        found = detector.eval()([torch.rand(3, 48, 72)])[0]
    assert set(found["labels"].tolist()) <= {1, 2, 3}
    assert (found["boxes"] <= torch.tensor([72, 48, 72, 48]) + 0.01).all()
    if maker is mask_rcnn_fpn:
        assert found["masks"].shape[1:] == (1, 48, 72)


@pytest.mark.parametrize("maker", MAKERS)
def test_norms_are_the_papers(maker):
    detector = maker(build_backbone("tiny_resnet"), 3, SMALL)
    if maker is faster_rcnn_c4:
        assert isinstance(detector.roi_heads.box_head.norm, nn.BatchNorm2d)  # extra, after layer4
        assert not any(name.startswith("layer4") for name, _ in detector.backbone.body.named_children())
        assert detector.rpn._post_nms_top_n == {"training": 40, "testing": 20}
    else:
        norms = [part for part in detector.backbone.fpn.modules() if isinstance(part, nn.BatchNorm2d)]
        assert len(norms) == 8  # two convolutions for each of four levels


def test_boxes_and_scores_are_float32():
    torch.manual_seed(0)
    detector = faster_rcnn_c4(build_backbone("tiny_resnet"), 3, SMALL).train()
    seen = {}
    detector.rpn.head.register_forward_hook(lambda m, i, o: seen.update(rpn=o[1][0].dtype, features=i[0][0].dtype))
    detector.roi_heads.box_predictor.register_forward_hook(lambda m, i, o: seen.update(logits=o[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector(*sample())
    assert all(value.isfinite() for value in losses.values())
    assert seen["rpn"] == seen["logits"] == torch.float32


def test_roi_align_levels_and_alignment():
    torch.manual_seed(0)
    strides = (4, 8, 16, 32)
    features = {str(level): torch.randn(2, 3, 512 // stride, 512 // stride) for level, stride in enumerate(strides)}
    sides = (40, 111, 113, 223, 225, 447, 449, 500)
    levels = (0, 0, 1, 1, 2, 2, 3, 3)
    boxes = [torch.tensor([[5.0, 7, 5 + s, 7 + s] for s in sides]), torch.tensor([[0.0, 0, 60, 30]])]
    pooled = AlignedRoIAlign(strides, 7)(features, boxes, [(512, 512)] * 2)
    assert pooled.shape == (9, 3, 7, 7)
    for place, level in enumerate(levels):
        region = torch.cat([torch.zeros(1, 1), boxes[0][place : place + 1]], 1)
        alone = roi_align(features[str(level)], region, 7, 1 / strides[level], 0, aligned=True)
        assert torch.equal(pooled[place : place + 1], alone)
    # On a map of each cell's centre, a box pools to the centres of its bins.
    centres = (torch.arange(64) * 8 + 4.0).expand(1, 1, 64, 64)
    bins = AlignedRoIAlign((8,), 4)({"0": centres}, [torch.tensor([[80.0, 80, 208, 208]])], [(512, 512)])
    assert torch.allclose(bins[0, 0, 0], torch.tensor([96.0, 128, 160, 192]), atol=1e-3)


def test_pyramid_equals_torchvisions():
    """The trunk's levels equal torchvision's FPN on the same outputs."""
    torch.manual_seed(0)
    detector = faster_rcnn_fpn(build_backbone("resnet18"), 2, SMALL).eval()
    images = torch.randn(1, 3, 64, 64)
    getter = torchvision.models._utils.IntermediateLayerGetter(
        detector.backbone.body, {f"layer{n + 1}": str(n) for n in range(4)}
    )
    with torch.no_grad():
        ours, theirs = detector.backbone(images), detector.backbone.fpn(getter(images))
    assert list(ours) == ["0", "1", "2", "3", "pool"]
    assert all(torch.equal(ours[level], theirs[level]) for level in ours)
