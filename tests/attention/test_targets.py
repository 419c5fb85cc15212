"""attention.target: each choice against plain loops in float64, and functions."""

import math

import pytest
import torch
from torch.nn import functional as F

from castlit.attention import AttentionLoss, Embeddings
from castlit.attention.targets import contrastive, positive
from castlit.utils.validation import InputError


def drawn(count, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


@pytest.fixture
def embeddings():
    return Embeddings(drawn(5, 7, 0).requires_grad_(), drawn(5, 7, 1), drawn(11, 7, 2), 0.3)


def test_positive_equals_dot_product(embeddings):
    expected = [dot(q, k) for q, k in zip(embeddings.query, embeddings.masked_key, strict=True)]
    assert positive(embeddings).tolist() == pytest.approx(expected, rel=1e-12)


def test_contrastive_equals_loop(embeddings):
    expected = [
        dot(q, k) / 0.3 - math.log(sum(math.exp(dot(q, n) / 0.3) for n in embeddings.negatives))
        for q, k in zip(embeddings.query, embeddings.masked_key, strict=True)
    ]
    assert contrastive(embeddings).tolist() == pytest.approx(expected, rel=1e-12)


def test_batch_negatives(embeddings):
    keys = embeddings.masked_key
    expected = [
        dot(q, keys[i]) / 0.3 - math.log(sum(math.exp(dot(q, n) / 0.3) for j, n in enumerate(keys) if j != i))
        for i, q in enumerate(embeddings.query)
    ]
    assert contrastive(embeddings._replace(negatives=None)).tolist() == pytest.approx(expected, rel=1e-12)


def test_single_image_is_finite(embeddings):
    alone = Embeddings(embeddings.query[:1], embeddings.masked_key[:1], None, 0.3)
    score = contrastive(alone)
    score.sum().backward()
    assert score.item() == pytest.approx(positive(alone).item() / 0.3)
    assert torch.isfinite(embeddings.query.grad).all()


def test_contrastive_ignores_common_direction():
    """All embeddings share a direction: it is a smaller fraction of the contrastive score's gradient."""
    common = F.normalize(torch.ones(1, 7, dtype=torch.float64), dim=1)
    query, keys, negatives = (
        F.normalize(2 * common + drawn(n, 7, seed), dim=1) for n, seed in ((5, 0), (5, 1), (50, 2))
    )
    fractions = {}
    for target in (positive, contrastive):
        q = query.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(target(Embeddings(q, keys, negatives, 0.5)).sum(), q)
        fractions[target] = ((gradient @ common.T).abs().squeeze(1) / gradient.norm(dim=1)).mean()
    assert fractions[contrastive] < fractions[positive] - 0.1


def test_half_precision_computes_in_float32(embeddings):
    half = Embeddings(*(x.detach().to(torch.bfloat16) for x in embeddings[:3]), 0.3)
    for target in ("positive", "contrastive"):
        with torch.autocast("cpu", torch.bfloat16):
            assert AttentionLoss(target=target).score(half).dtype == torch.float32


def test_custom_target_function(embeddings):
    attention = AttentionLoss(target=lambda e: -(e.query - e.masked_key).square().sum(1))
    assert attention.wants_negatives
    assert attention.score(embeddings).shape == (5,)
    assert torch.allclose(attention.score(embeddings), 2 * positive(embeddings) - 2)


@pytest.mark.parametrize("wrong", ["negative", "", 3, None])
def test_invalid_targets(wrong):
    with pytest.raises(InputError, match=r"attention\.target"):
        AttentionLoss(target=wrong)
