"""info_nce and nt_xent against double loops in plain Python."""

import math

import pytest
import torch
from torch.nn import functional as F

from castlit.methods import info_nce, nt_xent


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def info_nce_by_loops(query, positive, negatives, temperature):
    total = 0.0
    for q, p in zip(query, positive, strict=True):
        good = math.exp(dot(q, p) / temperature)
        total += -math.log(good / (good + sum(math.exp(dot(q, n) / temperature) for n in negatives)))
    return total / len(query)


def nt_xent_by_loops(first, second, temperature):
    views, n = [*first, *second], len(first)
    total = 0.0
    for i, view in enumerate(views):
        others = sum(math.exp(dot(view, views[k]) / temperature) for k in range(2 * n) if k != i)
        partner = i + n if i < n else i - n
        total += -math.log(math.exp(dot(view, views[partner]) / temperature) / others)
    return total / (2 * n)


@pytest.mark.parametrize(("batch", "queue"), [(17, 15), (1, 1), (3, 40)])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce(batch, queue, temperature):
    query, positive, negatives = unit(batch, 6), unit(batch, 6), unit(queue, 6)
    expected = info_nce_by_loops(query.tolist(), positive.tolist(), negatives.tolist(), temperature)
    assert float(info_nce(query, positive, negatives, temperature)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent(batch, temperature):
    first, second = unit(batch, 6), unit(batch, 6)
    expected = nt_xent_by_loops(first.tolist(), second.tolist(), temperature)
    assert float(nt_xent(first, second, temperature)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_gradients():
    query, positive, negatives = unit(3, 4).requires_grad_(), unit(3, 4).requires_grad_(), unit(5, 4)
    assert torch.autograd.gradcheck(lambda q, p: info_nce(q, p, negatives, 0.2), (query, positive))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.2), (query, positive))


def test_low_temperature_is_finite():
    query = unit(4, 6).float()
    assert float(info_nce(query, query, -query[:1], 1e-4)) == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(nt_xent(query, -query, 1e-4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    query, positive, negatives = (unit(4, 6).to(dtype) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        losses = info_nce(query, positive, negatives, 0.1), nt_xent(query, positive, 0.1)
        mixed = info_nce(query, positive, negatives.float(), 0.1)
    exact = (
        info_nce(query.float(), positive.float(), negatives.float(), 0.1),
        nt_xent(query.float(), positive.float(), 0.1),
    )
    assert [loss.dtype for loss in losses] == [torch.float32, torch.float32]
    assert torch.equal(torch.stack(losses), torch.stack(exact))
    assert torch.equal(mixed, exact[0])
