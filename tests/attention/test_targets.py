"""What a CAM may explain: each target against plain loops in float64, and any function of the user's."""

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


def test_positive_is_the_similarity_to_the_own_masked_key(embeddings):
    expected = [dot(q, k) for q, k in zip(embeddings.query, embeddings.masked_key, strict=True)]
    assert positive(embeddings).tolist() == pytest.approx(expected, rel=1e-12)


def test_contrastive_takes_off_what_the_negatives_have(embeddings):
    expected = [
        dot(q, k) / 0.3 - math.log(sum(math.exp(dot(q, n) / 0.3) for n in embeddings.negatives))
        for q, k in zip(embeddings.query, embeddings.masked_key, strict=True)
    ]
    assert contrastive(embeddings).tolist() == pytest.approx(expected, rel=1e-12)


def test_without_negatives_they_are_the_other_images_of_the_batch(embeddings):
    keys = embeddings.masked_key
    expected = [
        dot(q, keys[i]) / 0.3 - math.log(sum(math.exp(dot(q, n) / 0.3) for j, n in enumerate(keys) if j != i))
        for i, q in enumerate(embeddings.query)
    ]
    assert contrastive(embeddings._replace(negatives=None)).tolist() == pytest.approx(expected, rel=1e-12)


def test_one_image_alone_has_a_finite_score_and_gradient(embeddings):
    alone = Embeddings(embeddings.query[:1], embeddings.masked_key[:1], None, 0.3)
    score = contrastive(alone)
    score.sum().backward()
    assert score.item() == pytest.approx(positive(alone).item() / 0.3)
    assert torch.isfinite(embeddings.query.grad).all()


def test_what_all_images_have_in_common_is_explained_by_the_positive_target_only():
    """Each query and key is half of a common direction: its share of the contrastive score's gradient is smaller."""
    common = F.normalize(torch.ones(1, 7, dtype=torch.float64), dim=1)
    query, keys, negatives = (
        F.normalize(2 * common + drawn(n, 7, seed), dim=1) for n, seed in ((5, 0), (5, 1), (50, 2))
    )
    shares = {}
    for target in (positive, contrastive):
        q = query.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(target(Embeddings(q, keys, negatives, 0.5)).sum(), q)
        shares[target] = ((gradient @ common.T).abs().squeeze(1) / gradient.norm(dim=1)).mean()
    assert shares[contrastive] < shares[positive] - 0.1


def test_half_precision_embeddings_are_scored_in_float32(embeddings):
    half = Embeddings(*(x.detach().to(torch.bfloat16) for x in embeddings[:3]), 0.3)
    for target in ("positive", "contrastive"):
        with torch.autocast("cpu", torch.bfloat16):
            assert AttentionLoss(target=target).score(half).dtype == torch.float32


def test_a_function_of_ones_own(embeddings):
    attention = AttentionLoss(target=lambda e: -(e.query - e.masked_key).square().sum(1))
    assert attention.wants_negatives
    assert attention.score(embeddings).shape == (5,)
    assert torch.allclose(attention.score(embeddings), 2 * positive(embeddings) - 2)


@pytest.mark.parametrize("wrong", ["negative", "", 3, None])
def test_other_targets_are_refused(wrong):
    with pytest.raises(InputError, match=r"attention\.target"):
        AttentionLoss(target=wrong)
