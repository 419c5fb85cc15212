"""Heads and the encoder that pools before them."""

import pytest
import torch
from torch import nn

from castlit.nn import Encoder, linear_head, mlp_head, tiny_resnet
from castlit.nn.heads import dense_head


def kinds(head):
    return [type(part).__name__ for part in head]


def test_linear_head():
    head = linear_head(5, 3)
    assert isinstance(head, nn.Linear)
    assert (head.in_features, head.out_features) == (5, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["Linear", "ReLU", "Linear"]),
        ({"norm": True}, ["Linear", "HeadNorm", "ReLU", "Linear"]),
        (
            {"layers": 3, "norm": True, "last_norm": True},
            ["Linear", "HeadNorm", "ReLU", "Linear", "HeadNorm", "ReLU", "Linear", "HeadNorm"],
        ),
        ({"layers": 1}, ["Linear"]),
    ],
)
def test_mlp_head_layers(options, expected):
    head = mlp_head(5, 7, 3, **options)
    assert kinds(head) == expected
    assert head(torch.randn(4, 5)).shape == (4, 3)
    linear = [part for part in head if isinstance(part, nn.Linear)]
    assert [part.in_features for part in linear] == [5, *[7] * (len(linear) - 1)]
    # A bias before batch norm has no effect.
    followers = [*head[1:], None]
    for part, follower in zip(head, followers, strict=True):
        if isinstance(part, nn.Linear):
            assert (part.bias is None) == isinstance(follower, nn.BatchNorm1d)


def test_last_norm_is_not_affine():
    assert mlp_head(5, 7, 3, last_norm=True)[-1].weight is None


def test_last_bias_is_optional():
    assert [part.bias is None for part in mlp_head(5, 7, 3, last_bias=False) if isinstance(part, nn.Linear)] == [
        False,
        True,
    ]


def test_dense_head_is_positionwise():
    head, maps = dense_head(5, 7, 3), torch.randn(2, 5, 4, 6)
    projected = head(maps)
    assert projected.shape == (2, 3, 4, 6)
    assert torch.allclose(projected[1:, :, 2:3, 4:5], head(maps[1:, :, 2:3, 4:5]), atol=1e-6)


def test_mlp_head_parameter_names():
    assert set(mlp_head(5, 7, 3).state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_encoder_average_pooling():
    encoder = Encoder(tiny_resnet(), linear_head(128, 6)).double().eval()
    images = torch.randn(3, 3, 40, 56, dtype=torch.float64)
    maps = encoder.backbone(images)
    expected = maps.sum((2, 3)) / (maps.shape[2] * maps.shape[3]) @ encoder.head.weight.T + encoder.head.bias
    assert torch.allclose(encoder(images), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_head_float32_under_autocast(dtype):
    encoder, seen = Encoder(tiny_resnet(), linear_head(128, 6)).eval(), []
    encoder.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype):
        embedding = encoder(images)
        assert torch.is_autocast_enabled("cpu"), "autocast must be on again"
    assert seen[0].dtype == dtype
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, encoder.head(seen[0].float().mean((2, 3))))
