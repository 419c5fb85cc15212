"""The loss over several layers is their mean, from one backward pass; the default layer."""

import pytest
import torch

from castlit.attention import AttentionLoss, attention_loss, grad_cam, tap
from castlit.methods import MoCo
from castlit.utils.validation import InputError


@pytest.fixture
def method():
    torch.manual_seed(0)
    return MoCo("tiny_resnet", dim=8, queue_size=9).double().train()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    mask = (torch.rand(4, 1, 32, 32) > 0.6).byte()
    return torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64), mask


def weights(method):
    return [parameter for parameter in method.encoder.parameters() if parameter.requires_grad]


def test_one_loss_for_two_encoders():
    """Each encoder's own last layer, also where another one was first."""
    attention = AttentionLoss()
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    second = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2))
    found = [attention.find_layers(encoder) for encoder in (first, second, first)]
    assert found == [AttentionLoss().find_layers(encoder) for encoder in (first, second, first)]
    assert found[0] == found[2] != found[1]
    assert attention.layer is None


def test_loss_is_mean_over_layers(method, batch):
    images, z, mask = batch
    attention = AttentionLoss(layer=["layer3", "layer4"])
    with attention.tap(method.encoder) as activations:
        score = (method.embed(images) * z).sum(1)
    together = attention(score, activations, mask)
    found = torch.autograd.grad(together.loss, weights(method), allow_unused=True)

    losses, cams = [], []
    for layer in ("layer3", "layer4"):
        with tap(method.encoder, layer) as one:
            score = (method.embed(images) * z).sum(1)
        cams.append(grad_cam(score, one))
        losses.append(attention_loss(cams[-1], mask))
    mean = sum(losses) / 2
    expected = torch.autograd.grad(mean, weights(method), allow_unused=True)

    assert together.loss.item() == pytest.approx(mean.item(), rel=1e-9)
    assert losses[0].item() != pytest.approx(losses[1].item(), rel=1e-2)
    assert torch.allclose(together.cam, cams[1].detach(), rtol=1e-9), "the returned CAM is the last layer's"
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("wrong", [[], "", ["layer3", "layer3"], ["layer3", 4]])
def test_invalid_layer_lists(wrong):
    with pytest.raises(InputError, match=r"attention\.layer"):
        AttentionLoss(layer=wrong)


def test_unknown_layer_among_several(method):
    with pytest.raises(InputError, match="no layer 'layer5'"):
        AttentionLoss(layer=["layer4", "layer5"]).find_layers(method.encoder)


def test_default_layer_is_last_feature_map(method, batch):
    images, z, mask = batch
    found = {}
    for layer in (None, "layer4"):
        attention = AttentionLoss(layer)
        with attention.tap(method.encoder) as activations:
            score = (method.embed(images) * z).sum(1)
        found[layer] = attention(score, activations, mask).loss.item()
    assert found[None] == pytest.approx(found["layer4"], rel=1e-9)
    assert AttentionLoss().layer is None
