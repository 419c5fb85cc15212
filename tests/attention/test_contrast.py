"""ContraCAM's score against plain loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from castlit.attention import contrast


def drawn(count, seed, dim=5):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 6), looks=st.integers(1, 3), temperature=st.sampled_from([0.07, 0.2, 1.0]))
def test_equals_loops(count, looks, temperature):
    query, key = drawn(count, 0), drawn(count, 1)
    others = [drawn(count, 2 + look) for look in range(looks)]
    expected = [
        dot(query[i], key[i]) / temperature
        - math.log(
            sum(math.exp(dot(query[i], each[j]) / temperature) for each in others for j in range(count) if j != i)
        )
        for i in range(count)
    ]
    assert contrast(query, key, others, temperature).tolist() == pytest.approx(expected, rel=1e-10)


def test_single_image_scores_zero():
    query = drawn(1, 0).requires_grad_()
    key = drawn(1, 1)
    score = contrast(query, key, [key], 0.2)
    (gradient,) = torch.autograd.grad(score.sum(), query)
    assert score.item() == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max() < 1e-12


def test_half_precision_computes_in_float32():
    query, key = drawn(4, 0).bfloat16(), drawn(4, 1).bfloat16()
    score = contrast(query, key, [key], 0.2)
    assert score.dtype == torch.float32
    assert torch.allclose(score.double(), contrast(query.double(), key.double(), [key.double()], 0.2), atol=1e-5)
