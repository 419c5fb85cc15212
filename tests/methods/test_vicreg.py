"""VICReg's loss against loops over images and features."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from castlit.methods import VICReg, vicreg_loss
from castlit.nn.head_norm import HeadNorm
from castlit.utils.validation import InputError


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def covariance(a, b):
    return sum((x - mean(a)) * (y - mean(b)) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def loss_by_loops(first, second, weights=(25, 25, 1)):
    (count, dim), views = first.shape, [first.T.tolist(), second.T.tolist()]
    distance = mean((float(first[i, j]) - float(second[i, j])) ** 2 for i in range(count) for j in range(dim))
    hinges = [
        mean(max(0, 1 - math.sqrt(covariance(feature, feature) + 1e-4)) for feature in features) for features in views
    ]
    crossed = [
        sum(covariance(features[i], features[j]) ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
        for features in views
    ]
    return weights[0] * distance + weights[1] * mean(hinges) + weights[2] * sum(crossed)


@pytest.mark.parametrize(("count", "dim"), [(5, 3), (5, 5), (5, 11), (2, 7), (15, 1)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_loss_equals_loop(count, dim, scale):
    # Correlated features with nonzero means and standard deviations around 1.
    mixing = torch.randn(dim, dim, dtype=torch.float64)
    first, second = (scale * torch.randn(count, dim, dtype=torch.float64) @ mixing + 2 for _ in range(2))
    assert float(vicreg_loss(first, second)) == pytest.approx(loss_by_loops(first, second), rel=1e-10)
    for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        expected = loss_by_loops(first, second, weights)
        assert float(vicreg_loss(first, second, *weights)) == pytest.approx(expected, rel=1e-10, abs=1e-12), weights


@pytest.mark.parametrize("dim", [3, 11])
def test_gradients(dim):
    first, second = (torch.randn(5, dim, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(vicreg_loss, (first, second))


def test_loss_uses_unnormalised_expansions(make_method, views):
    method, (query, key) = make_method("vicreg", invariance=2.0, variance=3.0, covariance=4.0), views(5)
    loss, embedding = method(query, key)
    first, second = method.encoder(query), method.encoder(key)
    assert float(loss.detach()) == pytest.approx(loss_by_loops(first.detach(), second.detach(), (2, 3, 4)), rel=1e-10)
    assert torch.allclose(embedding, F.normalize(first, dim=1))


def test_both_views_have_gradients(make_method, views):
    method, (query, key) = make_method("vicreg"), views(5)
    weights = list(method.encoder.parameters())
    found = torch.autograd.grad(method(query, key).loss, weights)
    expected = torch.autograd.grad(vicreg_loss(method.encoder(query), method.encoder(key)), weights)
    one_sided = torch.autograd.grad(vicreg_loss(method.encoder(query), method.encoder(key).detach()), weights)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-10)
    assert not torch.allclose(found[0], one_sided[0], rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    first, second = torch.randn(2, 5, 11).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = vicreg_loss(first, second)
    assert found.dtype == torch.float32
    assert torch.equal(found, vicreg_loss(first.float(), second.float()))


def test_collapsed_views_are_finite():
    same = torch.ones(5, 11, requires_grad=True)
    loss = vicreg_loss(same, same)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(25 * 0.99, rel=1e-4)
    assert same.grad.isfinite().all()


def test_expander_layers():
    head = VICReg("tiny_resnet", dim=8, hidden=9).encoder.head
    block = [nn.Linear, HeadNorm, nn.ReLU]
    assert [type(part) for part in head] == [*block, *block, nn.Linear]
    assert [(part.in_features, part.out_features) for part in head if isinstance(part, nn.Linear)] == [
        (128, 9),
        (9, 9),
        (9, 8),
    ]
    assert head[-1].bias is None, "the loss does not depend on a bias"


def test_checks():
    for options, message in (
        ({"dim": 0}, "dim must be at least 1"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"invariance": -1}, "invariance must be at least 0"),
        ({"variance": "much"}, "variance must be a number"),
        ({"covariance": -0.5}, "covariance must be at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            VICReg(**{"backbone": "tiny_resnet", **options})
    with pytest.raises(InputError, match="at least two images, got 1"):
        vicreg_loss(torch.ones(1, 3), torch.ones(1, 3))
