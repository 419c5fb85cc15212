"""unit_length: equal to torch for nonzero vectors, zero with a zero gradient for zeros."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from castlit.nn import unit_length


@given(st.integers(0, 2**31), st.integers(-9, 9), st.sampled_from([0, 1, 2]))
def test_equals_torch_for_nonzero_vectors(seed, power, dim):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 10.0**power
    x.requires_grad_()
    weights = torch.arange(60.0).view(3, 4, 5)
    ours, torchs = unit_length(x, dim=dim), F.normalize(x, dim=dim)
    assert torch.equal(ours, torchs)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, torchs)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zeros_have_zero_derivatives(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    x[1] = torch.tensor([3.0, 0.0, -4.0, 0.0])
    x.requires_grad_()
    y = unit_length(x)
    assert torch.equal(y[0], torch.zeros(4, dtype=dtype))
    assert torch.allclose(y[1], torch.tensor([0.6, 0.0, -0.8, 0.0], dtype=dtype), atol=1e-2)
    (first,) = torch.autograd.grad((y * torch.arange(4, dtype=dtype)).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    for derivative in (first, second):
        assert torch.isfinite(derivative).all()
        assert torch.equal(derivative[0], torch.zeros(4, dtype=dtype))
        assert derivative[1].abs().max() > 0


def test_second_derivative():
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(unit_length, x)
