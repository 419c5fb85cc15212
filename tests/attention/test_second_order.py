"""The gradient of the attention loss with respect to the weights, through the CAM, against finite differences."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.nn import functional as F

from castlit.attention import AttentionLoss, Embeddings, attention_loss, grad_cam, reference_attention_loss, tap
from castlit.nn import Encoder, mlp_head

DTYPE = torch.float64


class Smooth(nn.Module):
    """A network small enough to check every weight, and smooth, as finite differences need."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Tanh())
        self.layer2 = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Softplus())
        self.layer3 = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh())

    def forward(self, images):
        return self.layer3(self.layer2(self.layer1(images)))


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "reference"}, {"cam": "signed"}, {"target": "evidence"}],
    ids=["", "reference", "signed", "evidence"],
)
@pytest.mark.parametrize("layer", ["layer1", "layer2", "layer3"])
def test_gradcheck_of_smooth_network(layer, options):
    encoder = Encoder(Smooth(), nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))).to(DTYPE)
    images, target = torch.randn(2, 3, 5, 8, dtype=DTYPE), F.normalize(torch.randn(2, 3, dtype=DTYPE), dim=1)
    mask = torch.rand(2, 1, 7, 9) > 0.4
    attention = AttentionLoss(layer=layer, **options)
    names, weights = zip(*encoder.named_parameters(), strict=True)

    def loss(*weights):
        with attention.tap(encoder) as activations:
            embedding = functional_call(encoder, dict(zip(names, weights, strict=True)), (images,))
        score = attention.score(Embeddings(F.normalize(embedding, dim=1), target, None, 0.2, embedding))
        return attention(score, activations, mask).loss

    assert gradcheck(loss, tuple(weight.detach().requires_grad_() for weight in weights), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "layer", "size", "training"),
    [
        ("tiny_resnet", "layer4", (40, 56), True),
        ("tiny_resnet", "layer4", (40, 56), False),
        ("tiny_resnet", "layer3", (24, 40), True),
        ("tiny_resnet", "layer2", (16, 16), False),
        ("resnet18", "layer4", (64, 48), False),
        ("resnet18", "layer3", (32, 48), True),
    ],
)
def test_gradient_along_random_directions(make_encoder, backbone, layer, size, training):
    encoder = make_encoder(backbone, mlp=True).train(training)
    images, target = torch.randn(3, 3, *size, dtype=DTYPE), torch.randn(3, 6, dtype=DTYPE)
    mask = torch.rand(3, 1, 9, 9) > 0.7

    def loss():
        with tap(encoder, layer) as activations:
            score = (F.normalize(encoder(images), dim=1) * target).sum(1)
        return attention_loss(grad_cam(score, activations), mask)

    weights = list(encoder.parameters())
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    start = [weight.detach().clone() for weight in weights]
    # Each tensor moves in proportion to its size, so that all contribute.
    direction = [torch.randn_like(weight) * weight.std(correction=0).clamp(min=0.1) for weight in start]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    values = []
    for step in (1e-7, -1e-7):
        with torch.no_grad():
            for weight, origin, d in zip(weights, start, direction, strict=True):
                weight.copy_(origin + step * d)
        values.append(loss().detach())
    assert torch.allclose((values[0] - values[1]) / 2e-7, slope, rtol=1e-4, atol=1e-6)
    assert slope.abs() > 1e-4, "a zero slope would test nothing"


def test_head_gets_second_order_gradient(make_encoder):
    # The head affects the CAM only through α, so its gradient is second order only.
    encoder = make_encoder("tiny_resnet")
    images, target = torch.randn(2, 3, 32, 32, dtype=DTYPE), torch.randn(2, 6, dtype=DTYPE)
    with tap(encoder, "layer4") as activations:
        score = (F.normalize(encoder(images), dim=1) * target).sum(1)
    attention_loss(grad_cam(score, activations), torch.rand(2, 1, 32, 32) > 0.5).backward()
    assert encoder.head.weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize("mask_size", [(4, 5), (2, 3), (17, 11)])
def test_losses_pass_gradcheck(mask_size):
    mask = torch.rand(3, 1, *mask_size) > 0.5
    mask[1] = False
    cam = torch.rand(3, 4, 5, dtype=DTYPE).add_(0.1).requires_grad_()
    assert gradcheck(lambda cam: attention_loss(cam, mask), (cam,))
    assert gradgradcheck(lambda cam: attention_loss(cam, mask), (cam,), fast_mode=True)
    assert gradcheck(lambda cam: reference_attention_loss(cam, mask), (cam,))


def test_cam_passes_gradgradcheck():
    head = mlp_head(3, 5, 4).to(DTYPE)
    head[1] = nn.Tanh()
    maps = torch.randn(2, 3, 3, 2, dtype=DTYPE, requires_grad=True)

    def cam(maps):
        score = F.normalize(head(maps.mean((2, 3))), dim=1).sum(1)
        return grad_cam(score, maps)

    assert gradcheck(cam, (maps,))
    assert gradgradcheck(cam, (maps,))
