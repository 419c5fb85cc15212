"""SimCLR, BYOL and SimSiam against their papers' formulas, image by image."""

import pytest
import torch
from torch.nn import functional as F

from castlit.methods import nt_xent


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def test_simclr_contrasts_both_views(make_method, views):
    method, (query, key) = make_method("simclr"), views()
    loss, embedding = method(query, key)
    z_q, z_k = (F.normalize(method.encoder(images), dim=1) for images in (query, key))
    assert torch.allclose(loss, nt_xent(z_q, z_k, 0.1), rtol=1e-10)
    assert torch.allclose(embedding, z_q)


def test_byol(make_method, views):
    method, (query, key) = make_method("byol"), views()
    loss, embedding = method(query, key)
    p_q, p_k = (method.predictor(method.encoder(images)) for images in (query, key))
    t_q, t_k = (method.momentum_encoder(images) for images in (query, key))
    # Equation 2: the squared distance of the unit vectors, 2 - 2 cos, here the mean over images of both directions.
    expected = sum(
        ((p / p.norm() - t / t.norm()) ** 2).sum()
        for ps, ts in ((p_q, t_k), (p_k, t_q))
        for p, t in zip(ps, ts, strict=True)
    ) / len(query)
    assert torch.allclose(loss, expected, rtol=1e-10)
    assert torch.allclose(embedding, F.normalize(p_q, dim=1))


def test_simsiam(make_method, views):
    method, (query, key) = make_method("simsiam"), views()
    loss, embedding = method(query, key)
    z_q, z_k = method.encoder(query), method.encoder(key)
    p_q, p_k = method.predictor(z_q), method.predictor(z_k)
    expected = sum(
        -cosine(p_q[i], z_k[i].detach()) / 2 - cosine(p_k[i], z_q[i].detach()) / 2 for i in range(len(query))
    ) / len(query)
    assert torch.allclose(loss, expected, rtol=1e-10)
    assert torch.allclose(embedding, F.normalize(p_q, dim=1))
    weights = [*method.encoder.parameters(), *method.predictor.parameters()]
    found = torch.autograd.grad(loss, weights)
    for a, b in zip(found, torch.autograd.grad(expected, weights), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-12), "the stop-gradient is that of equation 3"


def test_byol_target_has_no_gradient(make_method, views):
    method = make_method("byol")
    method(*views()).loss.backward()
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    trained = [*method.encoder.parameters(), *method.predictor.parameters()]
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.parametrize("name", ["simclr", "byol", "simsiam"])
def test_loss_is_symmetric(make_method, views, name):
    method, (query, key) = make_method(name), views()
    assert torch.allclose(method(query, key).loss, method(key, query).loss, rtol=1e-10)


@pytest.mark.parametrize(("name", "best"), [("byol", 0.0), ("simsiam", -1.0)])
def test_loss_range(make_method, views, name, best):
    method = make_method(name)
    loss = float(method(*views()).loss.detach())
    assert best <= loss <= best + (8 if name == "byol" else 2)
