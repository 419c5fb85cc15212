"""LARS against the formulas, parameter by parameter in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from castlit.optim import LARS
from castlit.utils.validation import InputError


class Naive:
    """Algorithm 1 of the paper in plain loops, with the rate outside of v, as in BYOL."""

    def __init__(self, weights, lr, momentum, decay, trust, exclude=True):
        self.w = [w.detach().double().clone() for w in weights]
        self.v = [torch.zeros_like(w) for w in self.w]
        self.lr, self.momentum, self.decay, self.trust, self.exclude = lr, momentum, decay, trust, exclude

    def step(self, gradients):
        for number, g in enumerate(gradients):
            if g is None:
                continue
            w, u = self.w[number], g.double().clone()
            if w.dim() > 1 or not self.exclude:
                u += self.decay * w
            if w.dim() > 1:
                of_w, of_u = sum(x * x for x in w.flatten()) ** 0.5, sum(x * x for x in u.flatten()) ** 0.5
                if of_w > 0 and of_u > 0:
                    u *= self.trust * of_w / of_u
            self.v[number] = self.momentum * self.v[number] + u
            self.w[number] = w - self.lr * self.v[number]


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).double()


def give_gradients(weights, without=()):
    for number, weight in enumerate(weights):
        weight.grad = None if number in without else torch.randn_like(weight)
    return [None if weight.grad is None else weight.grad.clone() for weight in weights]


def assert_same(weights, naive):
    for found, wanted in zip(weights, naive.w, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-3, 10),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.0, 1e-6, 0.3]),
    st.sampled_from([1e-3, 0.02, 1.0]),
    st.booleans(),
)
def test_equals_formulas(lr, momentum, decay, trust, exclude):
    torch.manual_seed(0)
    weights = list(network().parameters())
    naive = Naive(weights, lr, momentum, decay, trust, exclude)
    optimizer = LARS(weights, lr, momentum, decay, trust, exclude)
    for number in range(4):
        gradients = give_gradients(weights, without={number})
        naive.step(gradients)
        optimizer.step()
        for weight, gradient in zip(weights, gradients, strict=True):
            assert (weight.grad is None and gradient is None) or torch.equal(weight.grad, gradient), (
                "gradients must not change"
            )
    assert_same(weights, naive)


def test_first_step_size():
    weights = list(network().parameters())
    before = [weight.detach().clone() for weight in weights]
    gradients = give_gradients(weights)
    LARS(weights, lr=2.0, weight_decay=0.1, trust_coefficient=0.01).step()
    for weight, old, gradient in zip(weights, before, gradients, strict=True):
        if weight.dim() > 1:
            assert float((weight.detach() - old).norm() / old.norm()) == pytest.approx(0.02)
        else:
            assert torch.allclose(weight, old - 2 * gradient), "no decay, no trust ratio"


@pytest.mark.parametrize(("of_weights", "of_gradients"), [(0, 1), (1, 0), (0, 0)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_zero_norm_step_is_plain(of_weights, of_gradients, decay):
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64) * of_weights)
    weight.grad = torch.randn_like(weight) * of_gradients
    naive = Naive([weight], 0.5, 0.9, decay, 0.001)
    naive.step([weight.grad])
    LARS([weight], 0.5, 0.9, decay).step()
    assert weight.isfinite().all()
    assert_same([weight], naive)
    if of_gradients and not of_weights:
        assert torch.allclose(weight, -0.5 * weight.grad)


def test_group_settings():
    first, second = list(network().parameters()), list(network().parameters())
    naives = Naive(first, 0.1, 0.9, 0.0, 0.001), Naive(second, 0.5, 0.0, 0.2, 0.1)
    others = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.2, "trust_coefficient": 0.1}
    optimizer = LARS([{"params": first}, {"params": second, **others}], lr=0.1)
    for _ in range(3):
        for weights, naive in zip((first, second), naives, strict=True):
            naive.step(give_gradients(weights))
        optimizer.step()
    for weights, naive in zip((first, second), naives, strict=True):
        assert_same(weights, naive)


def test_state_dict_round_trip(tmp_path):
    weights = list(network().parameters())
    optimizer = LARS(weights, 0.3, 0.9, 0.1)
    for _ in range(2):
        give_gradients(weights)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    again = LARS(others, 0.1)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for weight, other, gradient in zip(weights, others, give_gradients(weights), strict=True):
        assert other is not weight
        other.grad = gradient
    optimizer.step()
    again.step()
    assert all(torch.equal(weight, other) for weight, other in zip(weights, others, strict=True))


def test_closure():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], 0.1)

    def closure():
        loss = (3 * weight).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 12
    assert (weight < 1).all()


def test_loss_descends():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 1)), torch.randn(64, 4)
    optimizer, losses = LARS(model.parameters(), lr=0.2, trust_coefficient=0.05), []
    for _ in range(100):
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0}, "lr must be greater than 0"),
        ({"lr": 1, "momentum": 1.0}, "momentum must be below 1"),
        ({"lr": 1, "weight_decay": -1}, "weight_decay must be at least 0"),
        ({"lr": 1, "trust_coefficient": 0}, "trust_coefficient must be greater than 0"),
    ],
)
def test_checks(options, message):
    with pytest.raises(InputError, match=message):
        LARS([nn.Parameter(torch.ones(1))], **options)
