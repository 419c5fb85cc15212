"""attention.target: each choice against plain loops in float64, and functions."""

import math

import pytest
import torch
from torch.nn import functional as F

from castlit.attention import AttentionLoss, Embeddings
from castlit.attention.targets import contrastive, evidence, positive
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


@pytest.fixture
def full(embeddings):
    """With a query before its normalisation, and a mean key."""
    lengths = torch.linspace(0.5, 3, 5, dtype=torch.float64)[:, None]
    h = (embeddings.query.detach() * lengths).requires_grad_()
    return embeddings._replace(unnormalised=h, mean_key=drawn(3, 7, 4).mean(0))


def test_evidence_equals_loop(full):
    expected = [dot(h, k) - dot(h, full.mean_key) for h, k in zip(full.unnormalised, full.masked_key, strict=True)]
    assert evidence(full).tolist() == pytest.approx(expected, rel=1e-12)
    alone = full._replace(mean_key=None)
    expected = [dot(h, k) for h, k in zip(full.unnormalised, full.masked_key, strict=True)]
    assert evidence(alone).tolist() == pytest.approx(expected, rel=1e-12)


def test_evidence_explains_the_match_not_its_residual():
    """Where query and key agree, the positive score's gradient is zero, and the evidence's is the key."""
    key = drawn(4, 7, 1)
    h = (2 * key).requires_grad_()
    same = Embeddings(F.normalize(h, dim=1), key, None, 0.2, h)
    (residual,) = torch.autograd.grad(positive(same).sum(), h, retain_graph=True)
    (match,) = torch.autograd.grad(evidence(same).sum(), h)
    assert residual.abs().max() < 1e-15
    assert torch.equal(match, key)


def test_evidence_needs_unnormalised_query(embeddings):
    with pytest.raises(InputError, match=r"attention\.target=evidence needs .* MethodOutput\(loss, embedding, unnorm"):
        AttentionLoss(target="evidence").score(embeddings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subtract": "queue", "target": "evidence"}, "attention.subtract must be"),
        ({"subtract": "negatives"}, "attention.subtract=negatives is for attention.target=evidence"),
        ({"cam": "raw"}, "attention.cam must be"),
        ({"cam": "signed", "mode": "reference"}, "leave attention.cam=rectified"),
    ],
)
def test_settings_that_do_not_go_together(options, message):
    with pytest.raises(InputError, match=message):
        AttentionLoss(**options)


def test_subtracting_negatives_needs_negatives(embeddings):
    loss = AttentionLoss(target="evidence", subtract="negatives")
    assert torch.allclose(loss.mean_key(embeddings.negatives), embeddings.negatives.mean(0))
    with pytest.raises(InputError, match=r"attention\.subtract=masked_keys"):
        loss.mean_key(None)


def test_half_precision_computes_in_float32(full):
    half = Embeddings(*(x.detach().to(torch.bfloat16) if isinstance(x, torch.Tensor) else x for x in full))
    for target in ("positive", "contrastive", "evidence"):
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
