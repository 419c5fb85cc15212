"""Backbones: equal to torchvision's trunk, and error messages."""

import pytest
import torch
import torchvision
from torch import nn

from castlit.nn import build_backbone, feature_channels
from castlit.utils.validation import InputError


def features_of_torchvision(network, images):
    """Run a torchvision classifier and return the input of its global pooling."""
    seen = []
    pooling = [part for part in network.modules() if isinstance(part, nn.AdaptiveAvgPool2d)][-1]
    handle = pooling.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0]


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "swin_t"])
def test_trunk_equals_torchvision(name):
    whole = torchvision.models.get_model(name, weights=None).eval()
    trunk = build_backbone(name).eval()
    weights = {key: value for key, value in whole.state_dict().items() if key in trunk.state_dict()}
    assert list(weights) == list(trunk.state_dict()), "the trunk keeps torchvision's names"
    trunk.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 96)
    feature_map = trunk(images)
    assert torch.equal(feature_map, features_of_torchvision(whole, images))
    assert feature_channels(trunk) == feature_map.shape[1]


@torch.no_grad()
def test_resnet18_lacks_only_the_classifier():
    whole, trunk = torchvision.models.resnet18(weights=None), build_backbone("resnet18")
    assert set(whole.state_dict()) - set(trunk.state_dict()) == {"fc.weight", "fc.bias"}
    trunk.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("fc.")})
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(whole.eval().fc(trunk.eval()(images).mean((2, 3))), whole(images), atol=1e-5)


@torch.no_grad()
def test_densenet_ends_in_relu():
    # torchvision applies the ReLU in forward(), so it is not among the children.
    whole, trunk = torchvision.models.densenet121(weights=None).eval(), build_backbone("densenet121").eval()
    trunk.load_state_dict({k: v for k, v in whole.state_dict().items() if k in trunk.state_dict()})
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(whole.classifier(trunk(images).mean((2, 3))), whole(images), atol=1e-5)


def test_tiny_resnet():
    network = build_backbone("tiny_resnet")
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 128, 8, 8)
    assert network(torch.randn(2, 3, 40, 56)).shape == (2, 128, 5, 7)
    assert feature_channels(network) == 128
    assert [name for name, _ in network.named_children()][3:] == ["layer1", "layer2", "layer3", "layer4"]
    assert sum(parameter.numel() for parameter in network.parameters()) < 600_000


def test_custom_network():
    network = nn.Conv2d(3, 7, 3)
    assert build_backbone(network) is network
    assert feature_channels(network.double()) == 7


@pytest.mark.parametrize(("wrong", "nearest"), [("resnet5", "resnet50"), ("tiny_resnt", "tiny_resnet")])
def test_unknown_name_suggests_nearest(wrong, nearest):
    with pytest.raises(InputError, match=f"'{wrong}' is not known .did you mean '{nearest}'"):
        build_backbone(wrong)


def test_detectors_are_refused():
    with pytest.raises(InputError, match="is not known"):
        build_backbone("fasterrcnn_resnet50_fpn")


class TwoMaps(nn.Module):
    def forward(self, images):
        return images, images


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (torchvision.models.resnet18(weights=None), r"feature map \(N, C, h, w\), but gave \(1, 1000\).*classifier"),
        (TwoMaps(), "but gave tuple"),
        (nn.Conv2d(4, 5, 1), r"cannot take a \(1, 3, 64, 64\) image"),
    ],
)
def test_invalid_outputs(network, message):
    with pytest.raises(InputError, match=message):
        feature_channels(network)


def test_feature_channels_is_stateless():
    network = build_backbone("tiny_resnet").train()
    # A frozen part must stay frozen.
    network.bn1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    feature_channels(network)
    assert network.training
    assert network.layer1.training
    assert not network.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
