"""HeadNorm: equal to torch's batch norm, except for constant statistics."""

import pytest
import torch
from torch import nn

from castlit.nn import untracked_batchnorm
from castlit.nn.head_norm import HeadNorm, borrow_head_norms, held_statistics


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pair(**options):
    ours, torchs = HeadNorm(4, **options).double(), nn.BatchNorm1d(4, **options).double()
    if ours.affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
def test_equals_torch(options, training, graph):
    ours, torchs = (part.train(training) for part in pair(**options))
    for _ in range(3):
        x = 3 * torch.randn(5, 4, dtype=torch.float64) + 1
        inputs = [x.clone().requires_grad_(graph) for _ in range(2)]
        found, expected = ours(inputs[0]), torchs(inputs[1])
        assert torch.allclose(found, expected, rtol=1e-10)
        if graph:
            for y in (found, expected):
                y.sin().sum().backward()
            assert torch.allclose(inputs[0].grad, inputs[1].grad, rtol=1e-8, atol=1e-12)
            for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
                assert torch.allclose(a.grad, b.grad, rtol=1e-8, atol=1e-12)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    for name, buffer in torchs.named_buffers():
        assert torch.allclose(ours.get_buffer(name), buffer, rtol=1e-10), name


def test_untracked_head_norm():
    ours, _ = pair()
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    with untracked_batchnorm(ours):
        ours(torch.randn(5, 4, dtype=torch.float64, requires_grad=True))
    for name, buffer in ours.named_buffers():
        assert torch.equal(buffer, before[name])


def test_single_image_raises():
    with pytest.raises(ValueError, match="more than 1 value"):
        pair()[0](torch.randn(1, 4, dtype=torch.float64, requires_grad=True))


def scale(part, x):
    return part.weight * (x.var(0, correction=0) + part.eps).rsqrt()


def test_held_statistics_are_constants():
    ours, _ = pair()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 4, dtype=torch.float64)
    score = (ours(x) * weights).sum()
    with held_statistics():
        (held,) = torch.autograd.grad(score, x, retain_graph=True)
    assert torch.allclose(held, weights * scale(ours, x), rtol=1e-10)
    (free,) = torch.autograd.grad(score, x)
    assert torch.allclose(free.sum(0), torch.zeros(4, dtype=free.dtype), atol=1e-12), "the common part is subtracted"
    assert not torch.allclose(held.sum(0), torch.zeros(4, dtype=free.dtype), atol=1e-2)


def test_second_order_through_statistics():
    ours, _ = pair()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 4, dtype=torch.float64)
    score = (ours(x) * weights).sum()
    with held_statistics():
        (held,) = torch.autograd.grad(score, x, create_graph=True)
    found = torch.autograd.grad(held.pow(3).sum(), [x, ours.weight])
    expected = torch.autograd.grad((weights * scale(ours, x)).pow(3).sum(), [x, ours.weight])
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9)
    assert found[0].abs().max() > 1e-3


def test_held_statistics_after_error():
    with pytest.raises(RuntimeError, match="on the way"), held_statistics():
        raise RuntimeError("on the way")
    ours, torchs = pair()
    x, y = (torch.ones(3, 4, dtype=torch.float64).cumsum(0).requires_grad_() for _ in range(2))
    ours(x).sin().sum().backward()
    torchs(y).sin().sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-8, atol=1e-12)


def test_half_precision_statistics():
    ours = HeadNorm(4).bfloat16()
    for name in ("running_mean", "running_var"):
        setattr(ours, name, getattr(ours, name).float())
    x = (torch.randn(64, 4) + 30).bfloat16()
    found = ours(x.requires_grad_())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(ours.running_mean, 0.1 * x.detach().float().mean(0), rtol=1e-5)
    assert float(found.detach().float().var(0, correction=0).sub(1).abs().max()) < 0.02


def test_borrow_head_norms():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(HeadNorm(4)), nn.BatchNorm2d(4))
    state, x = list(network.state_dict()), torch.randn(5, 3)
    wanted = network[:3](x)
    give_back = borrow_head_norms(network)
    assert [type(part) for part in (network[1], network[2][0], network[3])] == [HeadNorm, HeadNorm, nn.BatchNorm2d]
    assert torch.allclose(network[:3](x), wanted, atol=1e-6)
    # torch's batch norm also accepts sequences (N, C, L).
    assert network[1](torch.randn(5, 4, 6, requires_grad=True)).shape == (5, 4, 6)
    give_back()
    assert [type(part) for part in (network[1], network[2][0])] == [nn.BatchNorm1d, HeadNorm]
    assert list(network.state_dict()) == state
