"""MoCo v3: its loss against loops over images."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from castlit.methods import MoCoV3, info_nce_in_batch
from castlit.nn.head_norm import HeadNorm
from castlit.utils.validation import InputError


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def in_batch_by_loops(queries, keys, temperature, first):
    total = 0.0
    for number, query in enumerate(queries):
        scores = [math.exp(cosine(query, key) / temperature) for key in keys]
        total += -math.log(scores[first + number] / sum(scores))
    return total / len(queries)


@pytest.mark.parametrize(("batch", "keys", "first"), [(5, 5, 0), (5, 15, 5), (3, 7, 4), (1, 1, 0)])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_info_nce_in_batch(batch, keys, first, temperature):
    queries, all_keys = unit(batch, 6), unit(keys, 6)
    expected = in_batch_by_loops(queries.tolist(), all_keys.tolist(), temperature, first)
    found = float(info_nce_in_batch(queries, all_keys, temperature, first))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_in_batch_float32_under_autocast():
    queries, keys = unit(5, 6).bfloat16(), unit(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce_in_batch(queries, keys.float(), 0.1, 1)
    assert found.dtype == torch.float32
    assert torch.equal(found, info_nce_in_batch(queries.float(), keys.float(), 0.1, 1))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_loss_equals_loop(make_method, views, temperature):
    method, (query, key) = make_method("moco v3", temperature=temperature), views(5)
    loss, embedding = method(query, key)
    p_q, p_k = (method.predictor(method.encoder(images)) for images in (query, key))
    t_q, t_k = (method.momentum_encoder(images) for images in (query, key))
    ways = [(p_q, t_k), (p_k, t_q)]
    # Algorithm 1: both ways, each 2 T times the cross-entropy.
    expected = sum(2 * temperature * in_batch_by_loops(p.tolist(), t.tolist(), temperature, 0) for p, t in ways)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-10)
    assert torch.allclose(embedding, F.normalize(p_q, dim=1))


def test_head_layers():
    method = MoCoV3("tiny_resnet", dim=8, hidden=9)
    for head, width in ((method.encoder.head, 128), (method.predictor, 8)):
        assert [type(part) for part in head] == [nn.Linear, HeadNorm, nn.ReLU, nn.Linear, HeadNorm]
        assert [(part.in_features, part.out_features) for part in (head[0], head[3])] == [(width, 9), (9, 8)]
        assert head[0].bias is head[3].bias is head[4].weight is None


def test_only_momentum_encoder_is_frozen(make_method, views):
    method = make_method("moco v3")
    method(*views()).loss.backward()
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    trained = [*method.encoder.parameters(), *method.predictor.parameters()]
    assert all(parameter.grad.abs().max() > 0 for parameter in trained)


def test_defaults_of_official_code():
    method = MoCoV3("tiny_resnet")
    assert (method.momentum, method.momentum_schedule, method.temperature) == (0.99, "cosine", 1.0)
    assert (method.predictor[0].in_features, method.predictor[0].out_features) == (256, 4096)


def test_momentum_schedule_ends_at_one(make_method):
    method = make_method("moco v3", momentum=0.5)
    old = [parameter.clone() for parameter in method.momentum_encoder.parameters()]
    method.after_step(progress=0.5)
    for before, now, network in zip(
        old, method.momentum_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        assert torch.allclose(now, 0.75 * before + 0.25 * network, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"momentum": 1.5}, "momentum must be at most 1"),
        ({"momentum_schedule": "cosin"}, "did you mean 'cosine'"),
        ({"temperature": 0}, "temperature must be greater than 0"),
    ],
)
def test_checks(options, message):
    with pytest.raises(InputError, match=message):
        MoCoV3(**{"backbone": "tiny_resnet", **options})
