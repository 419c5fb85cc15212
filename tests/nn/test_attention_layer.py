"""The default layer of a CAM; that of each named backbone is tested with the backbones."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from castlit.attention import find_layer, tap
from castlit.nn import Encoder, attention_layer, build_backbone, tiny_resnet
from castlit.utils.validation import InputError


def conv(stride=2, inside=3):
    return nn.Conv2d(inside, 3, 3, stride, padding=1)


class Functional(nn.Module):
    """No layer outputs its map: the map is the network's own output."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(), conv()

    def forward(self, images):
        return F.relu(self.second(F.relu(self.first(images))))


class Unordered(nn.Module):
    """Registers its layers in another order than it runs them."""

    def __init__(self):
        super().__init__()
        self.late, self.early = conv(), conv()

    def forward(self, images):
        return self.late(self.early(images))


class OneSizeOnly(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size, self.first, self.last = size, conv(), conv()

    def forward(self, images):
        features = self.first(images)
        assert images.shape[-1] == self.size
        return self.last(features)


def pooled_resnet():
    """All but the last layer, with the pooling: a common way to make a backbone."""
    return nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-1])


@pytest.mark.parametrize(
    ("backbone", "wanted"),
    [
        (tiny_resnet, "layer4"),
        (lambda: build_backbone("resnet18"), "layer4"),
        (lambda: conv(), "backbone"),
        (Functional, "backbone"),
        (Unordered, "late"),
        (lambda: OneSizeOnly(384), "last"),
        (pooled_resnet, "7"),
        (lambda: nn.Sequential(conv(), conv(), nn.Dropout(), nn.Identity()), "1"),
        (lambda: nn.Sequential(conv(), nn.ReLU(inplace=True)), "1"),
        (lambda: nn.Sequential(OrderedDict(body=nn.Sequential(conv(), nn.Sequential(conv(), conv(1))))), "body.1"),
        (lambda: nn.ModuleDict({"only": nn.Sequential(conv(), conv(1))})["only"], "1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_default_layer(backbone, wanted):
    network = backbone()
    layer = attention_layer(network)
    assert layer == wanted
    encoder = Encoder(network, nn.Identity()).eval()
    find_layer(encoder, layer)
    size = network.size if isinstance(network, OneSizeOnly) else 64
    with torch.no_grad(), tap(encoder, layer) as activations:
        output = encoder.backbone(torch.randn(2, 3, size, size))
    assert activations.first.shape[2] > 1
    if output.shape[2] > 1:
        assert torch.equal(activations.first, output), "the CAM's map is the one that is pooled"


def test_attention_layer_is_stateless():
    network = tiny_resnet().train()
    network.bn1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    attention_layer(network)
    assert network.training
    assert network.layer1.training
    assert not network.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_no_feature_map():
    with pytest.raises(InputError, match=r"no layer of the backbone gives a feature map .*attention\.layer"):
        attention_layer(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
