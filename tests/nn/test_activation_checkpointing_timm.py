"""Checkpointed blocks of ViTs and ConvNeXts: without batch norm, called with keyword arguments."""

import copy

import pytest
import torch

from castlit.nn import attention_layer, build_backbone
from castlit.nn.activation_checkpointing import CheckpointedBlock
from castlit.nn.compiled_trunk import parts_before
from castlit.nn.forward_patch import blocks_before

timm = pytest.importorskip("timm")

# Numbers of blocks. eva02 passes the rotary embedding by keyword; stages of ConvNeXt and Swin contain blocks.
BLOCKS = {
    "timm/test_vit": 7,
    "timm/test_vit3": 10,
    "timm/eva02_tiny_patch14_224": 13,
    "timm/test_convnext": 13,
    "timm/swin_tiny_patch4_window7_224": 17,
    "timm/test_efficientnet": 7,
    "swin_t": 16,
    "vit_b_16": 12,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_are_equal(name):
    network = build_backbone(name).train()
    twin = copy.deepcopy(network)
    layer = attention_layer(network)
    blocks = blocks_before(network, network.get_submodule(layer))
    for block in blocks:
        CheckpointedBlock(block).apply()
    images = torch.randn(2, 3, 56, 56) if "14" in name else torch.randn(2, 3, 64, 64)
    for one in (network, twin):
        torch.manual_seed(1)
        one(images).square().mean().backward()
    for part, parameter in twin.named_parameters():
        assert torch.allclose(network.get_parameter(part).grad, parameter.grad, atol=1e-6), part
    assert len(blocks) == BLOCKS[name]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("timm/test_vit", ["patch_embed", "blocks"]),
        ("timm/test_convnext", ["stem", "stages", "stages.3"]),
        ("timm/resnet10t", ["conv1", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_compiled_parts(name, wanted):
    network = build_backbone(name)
    names = {part: name for name, part in network.named_modules()}
    found = parts_before(network, network.get_submodule(attention_layer(network)))
    assert [names[part.module] for part in found] == wanted
