"""Under autocast, head, score and CAM stay in float32: in bfloat16 the CAM would be off by 10 %."""

import pytest
import torch
from torch.nn import functional as F

from castlit.attention import AttentionLoss, attention_loss, grad_cam, tap

BF16 = torch.bfloat16


@pytest.fixture
def encoder(make_encoder):
    return make_encoder("tiny_resnet", dim=32, mlp=True).float()


@pytest.fixture
def batch():
    return torch.randn(4, 3, 64, 48), F.normalize(torch.randn(4, 32), dim=1), torch.rand(4, 1, 64, 48) > 0.5


def test_cam_and_loss_equal_float32(encoder, batch):
    images, target, mask = batch
    with torch.autocast("cpu", BF16):
        with tap(encoder, "layer4") as activations:
            embedding = F.normalize(encoder(images), dim=1)
        cam = grad_cam((embedding.float() * target).sum(1), activations)
        loss = attention_loss(cam, mask)
    assert {embedding.dtype, activations.first.dtype, cam.dtype, loss.dtype} == {torch.float32}
    # The activations show that autocast was on.
    exact = encoder.backbone(images)
    assert 1e-4 < (activations.first - exact).abs().max() / exact.abs().max() < 0.1

    maps = activations.first.detach().requires_grad_()
    score = (F.normalize(encoder.head(maps.mean((2, 3))), dim=1) * target).sum(1)
    expected = grad_cam(score, maps)
    assert (cam - expected).abs().max() <= 1e-3 * expected.max()
    assert torch.allclose(loss, attention_loss(expected, mask), atol=1e-5)


@pytest.mark.parametrize("dtype", [BF16, torch.float16])
def test_head_gradients_equal_float32(encoder, batch, dtype):
    images, target, mask = batch
    with torch.autocast("cpu", dtype):
        with tap(encoder, "layer4") as activations:
            embedding = F.normalize(encoder(images), dim=1)
        part = AttentionLoss()((embedding * target).sum(1), activations, mask)
    weights = list(encoder.head.parameters())
    gradients = torch.autograd.grad(part.loss, weights, allow_unused=True)
    maps = activations.first.detach().requires_grad_()
    score = (F.normalize(encoder.head(maps.mean((2, 3))), dim=1) * target).sum(1)
    expected = torch.autograd.grad(attention_loss(grad_cam(score, maps), mask), weights, allow_unused=True)
    assert expected[0].abs().max() > 0
    for found, wanted in zip(gradients, expected, strict=True):
        if wanted is not None:
            assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("layer", ["layer4", "layer3"])
def test_network_trains_under_autocast(encoder, batch, layer):
    images, target, mask = batch
    attention = AttentionLoss(layer=layer)
    with torch.autocast("cpu", BF16):
        with attention.tap(encoder) as activations:
            embedding = F.normalize(encoder(images), dim=1)
        part = attention((embedding * target).sum(1), activations, mask)
    part.loss.backward()
    gradient = encoder.backbone.conv1.weight.grad
    assert gradient.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
