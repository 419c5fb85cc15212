"""The network: feature maps of any backbone, and learning."""

import pytest
import torch
from torch import nn

from castlit.nn import build_backbone
from castlit.saliency.deepusps.network import SaliencyNetwork, feature_levels
from castlit.utils.validation import InputError


def strides(backbone):
    return [level.stride for level in feature_levels(build_backbone(backbone))]


def test_feature_levels():
    assert [(level.layer, level.stride) for level in feature_levels(build_backbone("resnet18"))] == [
        ("", 32),  # the backbone's output
        ("layer3", 16),
        ("layer2", 8),
        ("layer1", 4),
    ]
    assert strides("convnext_tiny") == [32, 16, 8, 4]
    assert strides("efficientnet_b0") == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in ("tiny_resnet", "resnet18", "timm/resnet10t") for size in ((64, 64), (72, 96))),
        ("timm/test_vit", (160, 160)),
    ],
)
def test_logits_size(name, size):
    network = SaliencyNetwork(name, 8).eval()
    logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 1, -(-size[0] // 4), -(-size[1] // 4))
    logits.sum().backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if n.startswith(("context", "merges", "head")))


def test_hooks_are_removed():
    network = SaliencyNetwork("tiny_resnet", 8).eval()
    network(torch.rand(1, 3, 64, 64))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_network_learns():
    torch.manual_seed(0)
    network = SaliencyNetwork("tiny_resnet", 8)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    images, targets = torch.randn(8, 3, 32, 32) * 0.1, torch.zeros(8, 1, 8, 8)
    for i in range(8):
        y, x = i // 4 * 3, i % 4 * 2
        images[i, :, 4 * y : 4 * y + 16, 4 * x : 4 * x + 8] += 1
        targets[i, :, y : y + 4, x : x + 2] = 1
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (((network.train()(images) > 0) == (targets > 0)).float().mean()) > 0.95


def test_backbone_without_feature_maps():
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    with pytest.raises(InputError):
        SaliencyNetwork(flat)
