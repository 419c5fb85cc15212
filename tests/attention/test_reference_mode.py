"""AttentionLoss: both modes, their weights, and the reference code step by step in numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from castlit.attention import AttentionLoss, attention_loss, grad_cam, raw_cam, reference_attention_loss
from castlit.utils.serializable import build, describe
from castlit.utils.validation import InputError


def sampled_at_points(mask, h, w):
    """Bilinear with align_corners: the corners of the grid are the corners of the mask."""
    height, width = mask.shape
    grid = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            y = i * (height - 1) / (h - 1) if h > 1 else 0.0
            x = j * (width - 1) / (w - 1) if w > 1 else 0.0
            top, left = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dx = y - top, x - left
            upper = mask[top, left] * (1 - dx) + mask[top, right] * dx
            lower = mask[bottom, left] * (1 - dx) + mask[bottom, right] * dx
            grid[i, j] = upper * (1 - dy) + lower * dy
    return grid


def reference_by_hand(maps, gradients, mask):
    cams, points = [], []
    for image in range(len(maps)):
        alpha = gradients[image].mean((1, 2))
        cam = (alpha[:, None, None] * maps[image]).sum(0)
        cam = cam - cam.min()
        cam = cam / (cam.max() + 1e-7)
        cam = np.maximum(cam, 0)
        cam = cam - cam.min()
        cam = cam / (cam.max() + 1e-7)
        cams.append(cam)
        points.append(sampled_at_points(mask[image, 0].astype(float), *cam.shape))
    cams, points = np.concatenate(cams, axis=None), np.concatenate(points, axis=None)
    return 1 - cams @ points / (np.linalg.norm(cams) * np.linalg.norm(points))


@pytest.fixture
def case():
    """Three images whose CAMs differ in scale; score, activations, gradients by hand, mask."""

    def make(grid=(7, 7), size=(56, 56)):
        scale = torch.tensor([1e-3, 1.0, 30.0], dtype=torch.float64).view(3, 1, 1, 1)
        maps = (torch.randn(3, 4, *grid, dtype=torch.float64) * scale).requires_grad_()
        weight = torch.randn(3, 4, dtype=torch.float64)
        score = (maps.mean((2, 3)).square() * weight).sum(1)
        pooled = maps.detach().numpy().mean((2, 3))
        gradients = 2 * pooled * weight.numpy() / (grid[0] * grid[1])
        gradients = np.broadcast_to(gradients[:, :, None, None], maps.shape)
        mask = np.random.default_rng(0).random((3, 1, *size)) > 0.6
        mask[1] = False
        return score, maps, gradients, mask

    return make


@pytest.mark.parametrize(
    ("grid", "size"), [((7, 7), (224, 224)), ((5, 7), (33, 50)), ((7, 7), (3, 4)), ((4, 6), (4, 6)), ((7, 7), (1, 1))]
)
def test_reference_equals_loop(case, grid, size):
    score, maps, gradients, mask = case(grid, size)
    mask[0, 0, 0, 0] = True
    expected = reference_by_hand(maps.detach().numpy(), gradients, mask)
    loss = reference_attention_loss(raw_cam(score, maps), torch.from_numpy(mask))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
    part = AttentionLoss(mode="reference")(score, maps, torch.from_numpy(mask))
    assert float(part.loss.detach()) == pytest.approx(expected, rel=1e-9)
    assert torch.equal(part.cam, grad_cam(score, maps).detach())


def test_cosine_per_batch_or_per_image(case):
    score, maps, _, mask = case()
    cam, mask = raw_cam(score, maps).detach(), torch.from_numpy(mask)
    alone = [float(reference_attention_loss(cam[i : i + 1], mask[i : i + 1])) for i in (0, 2)]
    assert float(reference_attention_loss(cam[[0, 2]], mask[[0, 2]])) != pytest.approx(np.mean(alone), rel=1e-6)
    alone = [float(attention_loss(cam[i : i + 1].relu(), mask[i : i + 1])) for i in (0, 2)]
    assert float(attention_loss(cam.relu(), mask)) == pytest.approx(np.mean(alone), rel=1e-12)


def test_paper_mode_equals_functions(case):
    score, maps, gradients, mask = case((5, 7), (20, 50))
    by_hand = np.maximum((gradients.mean((2, 3))[:, :, None, None] * maps.detach().numpy()).sum(1), 0)
    part = AttentionLoss()(score, maps, torch.from_numpy(mask))
    np.testing.assert_allclose(part.cam, by_hand, rtol=1e-10, atol=1e-12)
    assert float(part.loss.detach()) == pytest.approx(
        float(attention_loss(torch.from_numpy(by_hand), torch.from_numpy(mask)))
    )
    assert part.loss.requires_grad
    assert not part.cam.requires_grad


@pytest.mark.parametrize(
    ("mode", "weight", "of_contrastive", "of_attention"),
    [
        ("reference", 3.0, 0.25, 0.75),
        ("reference", 1, 0.5, 0.5),
        ("reference", 0, 1.0, 0.0),
        ("paper", 3.0, 1.0, 3.0),
        ("paper", 0.5, 1.0, 0.5),
        ("paper", 0, 1.0, 0.0),
    ],
)
def test_loss_weights(mode, weight, of_contrastive, of_attention):
    contrastive = torch.tensor(2.0, requires_grad=True)
    attention = torch.tensor(0.7, requires_grad=True)
    total = AttentionLoss(mode=mode, weight=weight).combine(contrastive, attention)
    assert float(total.detach()) == pytest.approx(of_contrastive * 2.0 + of_attention * 0.7)
    gradients = torch.autograd.grad(total, (contrastive, attention), allow_unused=True)
    assert [float(g) if g is not None else 0.0 for g in gradients] == pytest.approx([of_contrastive, of_attention])


@pytest.mark.parametrize("mode", ["paper", "reference"])
def test_weight_zero_has_no_graph(case, mode):
    score, maps, _, mask = case()
    mask = torch.from_numpy(mask)
    measured = AttentionLoss(mode=mode, weight=0)(score, maps, mask)
    assert not measured.loss.requires_grad
    assert torch.equal(measured.loss, AttentionLoss(mode=mode)(score, maps, mask).loss.detach())
    score.sum().backward()


@pytest.mark.parametrize("cam", [torch.zeros(2, 4, 4), torch.full((2, 4, 4), -3.0), torch.full((2, 4, 4), 1e-20)])
@pytest.mark.parametrize("filled", [0, 1])
def test_reference_constant_cams_are_finite(cam, filled):
    cam = cam.clone().requires_grad_()
    loss = reference_attention_loss(cam, torch.full((2, 1, 16, 16), float(filled)))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0)
    assert torch.isfinite(cam.grad).all()


def test_reference_half_precision():
    cam, mask = torch.randn(2, 7, 7).bfloat16(), torch.rand(2, 1, 56, 56) > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        loss = reference_attention_loss(cam, mask)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, reference_attention_loss(cam.float(), mask))


def test_settings_round_trip_and_checks():
    part = AttentionLoss("layer3", weight=1, mode="reference")
    again = build(describe(part))
    assert (again.layer, again.weight, again.mode) == ("layer3", 1.0, "reference")
    assert "layer3" in repr(part)
    with pytest.raises(InputError, match=r"attention\.weight must be at least 0"):
        AttentionLoss(weight=-1)
    with pytest.raises(InputError, match=r"did you mean 'reference'"):
        AttentionLoss(mode="referense")
    with pytest.raises(InputError, match="masks"):
        reference_attention_loss(torch.rand(2, 7, 7), torch.rand(3, 1, 7, 7))


def test_bilinear_loop_equals_torch():
    mask = torch.rand(2, 1, 9, 14, dtype=torch.float64)
    by_torch = F.interpolate(mask, (5, 7), mode="bilinear", align_corners=True)
    by_hand = np.stack([sampled_at_points(m[0].numpy(), 5, 7) for m in mask])
    np.testing.assert_allclose(by_torch[:, 0], by_hand, rtol=1e-12)
