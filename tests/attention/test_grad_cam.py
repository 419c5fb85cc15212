"""grad_cam against the formula written out: G = ReLU(Σ_c α_c A_c), α_c = mean over the map of ∂score/∂A_c."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from castlit.attention import grad_cam, raw_cam, tap
from castlit.utils.validation import InputError

GRIDS = [(7, 7), (5, 7), (1, 1), (1, 6), (8, 3)]


def cam_by_loops(weights, maps):
    """Σ_c α_c A_c, cell by cell. weights (N, C), maps (N, C, h, w), both numpy."""
    n, c, h, w = maps.shape
    cam = np.zeros((n, h, w))
    for image in range(n):
        for y in range(h):
            for x in range(w):
                cam[image, y, x] = sum(weights[image, i] * maps[image, i, y, x] for i in range(c))
    return cam


@pytest.mark.parametrize("grid", GRIDS)
def test_linear_head_closed_form(grid):
    # score = t · (W mean(A) + b), so ∂score/∂A_c = (Wᵀ t)_c / (h w) everywhere.
    maps = torch.randn(3, 4, *grid, dtype=torch.float64, requires_grad=True)
    weight, bias, target = (torch.randn(*shape, dtype=torch.float64) for shape in [(5, 4), (5,), (3, 5)])
    score = ((maps.mean((2, 3)) @ weight.T + bias) * target).sum(1)
    alpha = (target @ weight / (grid[0] * grid[1])).numpy()
    expected = cam_by_loops(alpha, maps.detach().numpy())
    np.testing.assert_allclose(raw_cam(score, maps).detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(grad_cam(score, maps).detach(), np.maximum(expected, 0), rtol=1e-12)
    assert (expected < 0).any(), "the ReLU must have an effect"


@pytest.mark.parametrize("grid", GRIDS)
def test_positive_weights(grid):
    maps = torch.randn(3, 4, *grid, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64)
    score = (maps.mean((2, 3)) * weight).sum(1)
    alpha = weight.numpy() / (grid[0] * grid[1])
    expected = cam_by_loops(np.maximum(alpha, 0), maps.detach().numpy())
    np.testing.assert_allclose(raw_cam(score, maps, positive_weights=True).detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        grad_cam(score, maps, positive_weights=True).detach(), np.maximum(expected, 0), rtol=1e-12
    )
    assert not np.allclose(expected, cam_by_loops(alpha, maps.detach().numpy()))


@pytest.mark.parametrize("grid", GRIDS)
def test_normalised_embedding_closed_form(grid):
    # With z = u / ‖u‖, u = W mean(A): ∂(z · t)/∂u = (t - (z · t) z) / ‖u‖.
    maps = torch.randn(3, 4, *grid, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64)
    target = F.normalize(torch.randn(3, 5, dtype=torch.float64), dim=1)
    score = (F.normalize(maps.mean((2, 3)) @ weight.T, dim=1) * target).sum(1)
    u = maps.detach().numpy().mean((2, 3)) @ weight.numpy().T
    t, length = target.numpy(), np.linalg.norm(u, axis=1, keepdims=True)
    z = u / length
    of_u = (t - (z * t).sum(1, keepdims=True) * z) / length
    alpha = of_u @ weight.numpy() / (grid[0] * grid[1])
    expected = np.maximum(cam_by_loops(alpha, maps.detach().numpy()), 0)
    np.testing.assert_allclose(grad_cam(score, maps).detach(), expected, rtol=1e-10, atol=1e-15)


def parts_after(encoder, layer):
    children = dict(encoder.backbone.named_children())
    names = list(children)
    return [children[name] for name in names[names.index(layer) + 1 :]]


@pytest.mark.parametrize(
    ("backbone", "layer", "size"),
    [
        ("tiny_resnet", "layer4", (40, 56)),
        ("tiny_resnet", "layer3", (24, 40)),
        ("tiny_resnet", "layer1", (24, 16)),
        ("resnet18", "layer4", (64, 96)),
        ("resnet18", "layer3", (48, 32)),
    ],
)
def test_equals_finite_differences(make_encoder, backbone, layer, size):
    encoder = make_encoder(backbone, mlp=True)
    images, target = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    with tap(encoder, layer) as activations:
        score = (F.normalize(encoder(images), dim=1) * target).sum(1)
    maps = activations.first.detach()

    @torch.no_grad()
    def score_of(image, perturbed):
        for part in parts_after(encoder, layer):
            perturbed = part(perturbed)
        return F.normalize(encoder.head(perturbed.mean((2, 3))), dim=1) @ target[image]

    assert torch.allclose(score_of(0, maps[:1]), score[0].detach(), rtol=1e-12)
    # Cell p of the CAM, Σ_c α_c A_c(p), is the score's slope towards the constant map A(p), divided by the cells.
    cells, step = maps[0, 0].numel(), 1e-6
    expected = np.zeros((2, *maps.shape[2:]))
    for image, y, x in np.ndindex(expected.shape):
        here, shift = maps[image : image + 1], step * maps[image, :, y, x, None, None]
        both = score_of(image, torch.cat([here + shift, here - shift]))
        expected[image, y, x] = float(both[0] - both[1]) / (2 * step) / cells
    cam = raw_cam(score, activations).detach().numpy()
    np.testing.assert_allclose(cam, expected, atol=1e-6 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-6


def test_cams_are_independent(make_encoder):
    encoder = make_encoder("tiny_resnet")
    images, target = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)

    def cams(images, target):
        with tap(encoder, "layer4") as activations:
            score = (F.normalize(encoder(images), dim=1) * target).sum(1)
        return grad_cam(score, activations).detach()

    together = cams(images, target)
    for image in range(3):
        alone = cams(images[image : image + 1], target[image : image + 1])[0]
        assert torch.allclose(together[image], alone, rtol=1e-10, atol=1e-18)
    louder = images.clone()
    louder[1] *= 1000
    assert torch.equal(cams(louder, target)[[0, 2]], together[[0, 2]])


def test_cam_scales_with_score():
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    score = maps.square().mean((1, 2, 3))
    assert torch.allclose(grad_cam(7 * score, maps), 7 * grad_cam(score, maps), rtol=1e-12)


@pytest.mark.parametrize("create_graph", [True, False])
def test_create_graph_and_score_graph(create_graph):
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    score = maps.square().mean((1, 2, 3))
    cam = grad_cam(score, maps, create_graph=create_graph)
    # The CAM without create_graph still depends on the maps themselves, but not through its weights.
    (gradient,) = torch.autograd.grad(cam.sum(), maps, retain_graph=True)
    assert torch.isfinite(gradient).all()
    alpha = (2 * maps.detach() / 60).mean((2, 3), keepdim=True)
    of_maps = alpha.expand_as(maps) * (cam > 0)[:, None]
    of_weights = (2 / 60 / 20) * (maps.detach() * (cam > 0)[:, None]).sum((2, 3), keepdim=True)
    expected = of_maps + of_weights if create_graph else of_maps
    assert torch.allclose(gradient, expected, atol=1e-6)
    score.sum().backward()
    assert torch.allclose(maps.grad, 2 * maps.detach() / 60)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_output_is_at_least_float32(dtype):
    maps = torch.randn(2, 3, 4, 5, dtype=dtype, requires_grad=True)
    cam = grad_cam(maps.square().mean((1, 2, 3)), maps)
    assert cam.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_error_messages():
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    with pytest.raises(InputError, match=r"score \(N,\).*\(3,\) and \(2, 3, 4, 5\)"):
        grad_cam(torch.randn(3, requires_grad=True), maps)
    with pytest.raises(InputError, match="does not depend on the activations"):
        grad_cam(torch.randn(2, requires_grad=True), maps)
    with pytest.raises(InputError, match="with a graph"):
        grad_cam(maps.mean((1, 2, 3)).detach(), maps)
    with torch.inference_mode(), torch.enable_grad():
        score = maps.mean((1, 2, 3))
        with pytest.raises(InputError, match="build the trainer with inference_mode=False"):
            grad_cam(score, maps)
    with pytest.raises(InputError, match="all layers up to it are frozen"):
        grad_cam(maps.mean((1, 2, 3)), maps.detach())
    with tap(torch.nn.Sequential(torch.nn.Identity()), "0") as empty:
        pass
    with pytest.raises(InputError, match="has not run"):
        grad_cam(torch.randn(2, requires_grad=True), empty)
