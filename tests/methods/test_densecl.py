"""DenseCL: both losses against loops over images and positions, its two queues, and the encoder's two heads."""

import math

import pytest
import torch
from torch.nn import functional as F

from castlit.attention import grad_cam, tap
from castlit.methods import DenseCL
from castlit.methods.densecl import matches
from castlit.utils.validation import InputError


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def info_nce_by_loops(query, positive, negatives, temperature):
    good = math.exp(cosine(query, positive) / temperature)
    return -math.log(good / (good + sum(math.exp(cosine(query, n) / temperature) for n in negatives)))


def positions(maps):
    """(C, h, w) to a list of h · w vectors."""
    return maps.flatten(1).T.tolist()


def alive(method):
    """Without positions of all zeros, which match every position equally; queues in full precision."""
    for queue in (method.queue, method.dense_queue):
        queue.keys.copy_(F.normalize(queue.keys, dim=1))
    for encoder in (method.encoder, method.momentum_encoder):
        torch.nn.init.constant_(encoder.backbone.layer4[1].bias, 3.0)
    return method


@torch.no_grad()
def losses_by_loops(method, query, key):
    """The global and the dense loss, straight from the paper's section 3."""
    maps_q, maps_k = method.encoder.backbone(query), method.momentum_encoder.backbone(key)
    whole_q = method.encoder.head(maps_q.mean((2, 3))).tolist()
    whole_k = method.momentum_encoder.head(maps_k.mean((2, 3))).tolist()
    dense_q, dense_k = method.encoder.dense_head(maps_q), method.momentum_encoder.dense_head(maps_k)
    queue, dense_queue, temperature = method.queue.keys.tolist(), method.dense_queue.keys.tolist(), method.temperature
    whole, dense = [], []
    for n in range(len(query)):
        whole.append(info_nce_by_loops(whole_q[n], whole_k[n], queue, temperature))
        seen_q, seen_k = positions(maps_q[n]), positions(maps_k[n])
        for at, r in enumerate(positions(dense_q[n])):
            alike = [cosine(seen_q[at], other) for other in seen_k]
            best = positions(dense_k[n])[alike.index(max(alike))]
            dense.append(info_nce_by_loops(r, best, dense_queue, temperature))
    return sum(whole) / len(whole), sum(dense) / len(dense)


@pytest.mark.parametrize("weight", [0.5, 0.0, 1.0, 0.3])
def test_loss_equals_loop(make_method, views, weight):
    method, (query, key) = alive(make_method("densecl", dense_weight=weight)), views(5)
    whole, dense = losses_by_loops(method, query, key)
    assert float(method(query, key).loss.detach()) == pytest.approx((1 - weight) * whole + weight * dense, rel=1e-10)


def test_key_maps_of_another_size(make_method, views):
    method, (query, key) = alive(make_method("densecl")), views(3)
    key = F.interpolate(key, (17, 11))
    whole, dense = losses_by_loops(method, query, key)
    assert float(method(query, key).loss.detach()) == pytest.approx((whole + dense) / 2, rel=1e-10)


def test_equal_views_match_themselves():
    maps = torch.randn(3, 6, 35)
    order = torch.randperm(35)
    assert torch.equal(matches(maps, 3 * maps[:, :, order]), order.argsort().expand(3, 35))


def test_keys_enqueued_after_loss(make_method, views):
    method, (query, key) = make_method("densecl"), views(17)
    maps = method.momentum_encoder.backbone(key)
    whole = F.normalize(method.momentum_encoder.head(maps.mean((2, 3))), dim=1)
    pooled = F.normalize(method.momentum_encoder.dense_head(maps).mean((2, 3)), dim=1)
    method(query, key)
    for queue, keys in ((method.queue, whole), (method.dense_queue, pooled)):
        # Of 17 keys, written from position 0 on, the last 15 stay in a queue of 15.
        expected = keys[[15, 16, *range(2, 15)]]
        assert torch.allclose(queue.keys, expected, rtol=1e-9)
        assert int(queue.pointer) == 2


def test_momentum_encoder_updates_both_heads(make_method):
    method = make_method("densecl", momentum=0.9)
    old = [parameter.clone() for parameter in method.momentum_encoder.parameters()]
    method.after_step()
    pairs = zip(old, method.momentum_encoder.parameters(), method.encoder.parameters(), strict=True)
    for before, now, network in pairs:
        assert torch.allclose(now, 0.9 * before + 0.1 * network, rtol=1e-12)
    assert any(name.startswith("dense_head") for name, _ in method.momentum_encoder.named_parameters())


def test_cam_from_loss_pass(make_method, views):
    method, (query, key) = make_method("densecl"), views(5)
    with tap(method.encoder, "layer4") as activations:
        output = method(query, key)
    assert len(activations) == 1
    cam = grad_cam((output.embedding * method.target(key)).sum(1), activations)
    (output.loss + cam.square().sum()).backward()
    maps = method.encoder.backbone(query).detach().requires_grad_()
    score = F.normalize(method.encoder.head(maps.mean((2, 3))), dim=1) * method.target(key)
    (gradient,) = torch.autograd.grad(score.sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    assert torch.allclose(cam, expected, rtol=1e-8)


def test_dense_head_float32_under_autocast():
    method = DenseCL("tiny_resnet", dim=8, queue_size=15)
    with torch.autocast("cpu", torch.bfloat16):
        features = method.encoder.dense(torch.randn(3, 3, 32, 32))
        loss = method(torch.randn(3, 3, 32, 32), torch.randn(3, 3, 32, 32)).loss
    assert {features.embedding.dtype, features.maps.dtype, features.parts.dtype, loss.dtype} == {torch.float32}


def test_defaults_of_paper():
    method = DenseCL("tiny_resnet")
    assert method.queue.keys.shape == method.dense_queue.keys.shape == (65536, 128)
    assert (method.momentum, method.temperature, method.dense_weight) == (0.999, 0.2, 0.5)
    head = method.encoder.dense_head
    assert [part.kernel_size for part in (head[0], head[2])] == [(1, 1), (1, 1)]
    assert [part.out_channels for part in (head[0], head[2])] == [128, 128]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dense_weight": 1.5}, "dense_weight must be at most 1"),
        ({"dense_weight": -1}, "dense_weight must be at least 0"),
        ({"queue_size": 0}, "queue_size must be at least 1"),
        ({"temperature": 0}, "temperature must be greater than 0"),
    ],
)
def test_checks(options, message):
    with pytest.raises(InputError, match=message):
        DenseCL(**{"backbone": "tiny_resnet", **options})
