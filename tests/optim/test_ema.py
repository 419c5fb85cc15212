"""update_average against the formula in float64, and the momentum's schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from castlit.nn import tiny_resnet
from castlit.optim import momentum_copy, scheduled_momentum, update_average


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_equals_formula(momentum):
    network = tiny_resnet()
    average = momentum_copy(network)
    exact = [parameter.detach().double() for parameter in average.parameters()]
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        update_average(average, network, momentum)
        exact = [
            momentum * old + (1 - momentum) * new.detach().double()
            for old, new in zip(exact, network.parameters(), strict=True)
        ]
    for found, wanted in zip(average.parameters(), exact, strict=True):
        assert torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_momentum_one_and_zero_are_exact():
    network, other = nn.Linear(3, 4), nn.Linear(3, 4)
    average = momentum_copy(network)
    update_average(average, other, 1.0)
    assert torch.equal(average.weight, network.weight)
    update_average(average, other, 0.0)
    assert torch.equal(average.weight, other.weight)


def test_buffers_do_not_change():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = momentum_copy(network)
    network(torch.randn(8, 3))
    buffers = {name: buffer.clone() for name, buffer in average.named_buffers()}
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    update_average(average, network, 0.5)
    for name, buffer in average.named_buffers():
        assert torch.equal(buffer, buffers[name])
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, weights[name])


def test_momentum_copy():
    network = nn.Linear(3, 4)
    average = momentum_copy(network)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.allclose(average.weight + 1, network.weight)


def test_cosine_momentum_equals_formula():
    # The paper's formula, k of K steps.
    wanted = [1 - (1 - 0.996) * (math.cos(math.pi * k / 8) + 1) / 2 for k in range(9)]
    found = [scheduled_momentum(0.996, "cosine", k / 8) for k in range(9)]
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found[::4] == pytest.approx([0.996, 0.998, 1.0], abs=1e-12)
    assert [scheduled_momentum(0.996, "constant", k / 8) for k in range(9)] == [0.996] * 9


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted))
def test_cosine_momentum_is_monotonic(momentum, moments):
    earlier, later = (scheduled_momentum(momentum, "cosine", moment) for moment in moments)
    assert momentum - 1e-12 <= earlier <= later <= 1
