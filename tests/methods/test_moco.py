"""MoCo: the loss, the queue, and the momentum encoder."""

import pytest
import torch
from torch.nn import functional as F

from castlit.methods import MoCo, info_nce
from castlit.utils.validation import InputError


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(network, before):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("name", ["moco v1", "moco v2"])
def test_loss_precedes_enqueue(make_method, views, name):
    method = make_method(name)
    for _ in range(3):
        query, key = views(17)
        queue = method.queue.keys.clone()
        z_q, z_k = F.normalize(method.encoder(query), dim=1), F.normalize(method.momentum_encoder(key), dim=1)
        expected = info_nce(z_q, z_k, queue, method.temperature)
        loss, embedding = method(query, key)
        assert torch.allclose(loss, expected, rtol=1e-12)
        assert torch.allclose(embedding, z_q)
        # If keys were enqueued first, most queries would be contrasted with their own key.
        late = info_nce(z_q, z_k, method.queue.keys, method.temperature)
        assert not torch.allclose(loss, late, rtol=1e-3)


def test_batch_larger_than_queue(make_method, views):
    method, (_, key) = make_method("moco v2"), views(17)
    for step in range(1, 5):
        method(*views(17)[:1], key)
        z_k = method.target(key)
        # Of 17 keys the last 15 stay; the pointer is the next slot.
        expected = torch.empty_like(method.queue.keys)
        for number in range(2, 17):
            expected[((step - 1) * 17 + number) % 15] = z_k[number]
        assert torch.allclose(method.queue.keys, expected)
        assert int(method.queue.pointer) == step * 17 % 15


def test_backward_after_enqueue(make_method, views):
    method, (query, key) = make_method("moco v2"), views(17)
    queue = method.queue.keys.clone()
    method(query, key).loss.backward()
    found = [parameter.grad.clone() for parameter in method.encoder.parameters()]
    z_q, z_k = F.normalize(method.encoder(query), dim=1), F.normalize(method.momentum_encoder(key), dim=1)
    expected = torch.autograd.grad(info_nce(z_q, z_k, queue, 0.2), list(method.encoder.parameters()))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)


def test_enqueues_only_in_training(make_method, views):
    method, (query, key) = make_method("moco v2").eval(), views()
    before = state(method)
    method(query, key)
    assert not changed(method, before)
    method.train()(query, key)
    assert {"queue.keys", "queue.pointer"} < changed(method, before)


def test_momentum_branch_has_no_gradient(make_method, views):
    method = make_method("moco v2")
    output = method(*views())
    output.loss.backward()
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    assert all(parameter.grad is not None for parameter in method.encoder.parameters())
    assert not method.queue.keys.requires_grad


@pytest.mark.parametrize("name", ["moco v2", "byol", "moco v3", "densecl"])
def test_after_step_updates_average(make_method, views, name):
    method, (query, key) = make_method(name, momentum=0.9), views()
    old = [parameter.clone() for parameter in method.momentum_encoder.parameters()]
    method(query, key)
    method.target(key)
    assert all(torch.equal(a, b) for a, b in zip(old, method.momentum_encoder.parameters(), strict=True))
    method.after_step()
    for before, now, network in zip(
        old, method.momentum_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        assert torch.allclose(now, 0.9 * before + 0.1 * network, rtol=1e-12)


def test_target_keeps_queue(make_method, views):
    method = make_method("moco v2")
    before = state(method)
    method.target(views()[0])
    assert not changed(method, before)


def test_keys_update_momentum_statistics(make_method, views):
    method, (query, key) = make_method("moco v2"), views()
    before = state(method.momentum_encoder)
    method(query, key)
    assert all("running" in name or "num_batches" in name for name in changed(method.momentum_encoder, before))
    assert method.momentum_encoder.backbone.bn1.num_batches_tracked == 1


def test_heads_of_v1_and_v2(make_method):
    assert set(make_method("moco v1").encoder.head.state_dict()) == {"weight", "bias"}
    assert set(make_method("moco v2").encoder.head.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_defaults_of_moco_v2():
    method = MoCo("tiny_resnet")
    assert (method.queue.keys.shape, method.momentum, method.temperature) == ((65536, 128), 0.999, 0.2)


def test_momentum_encoder_starts_as_a_copy():
    method = MoCo("tiny_resnet", queue_size=4)
    for a, b in zip(method.encoder.parameters(), method.momentum_encoder.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_size": 0}, "queue_size must be at least 1"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"momentum": 1.5}, "momentum must be at most 1"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"backbone": "tiny_resnt"}, "did you mean 'tiny_resnet'"),
    ],
)
def test_checks(options, message):
    with pytest.raises(InputError, match=message):
        MoCo(**{"backbone": "tiny_resnet", **options})
