"""attention_loss against loops over pixels, and cases where the cosine is undefined."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.attention import attention_loss, grad_cam
from castlit.utils.validation import InputError


def area_average(mask, h, w):
    """Average a mask (H, W) over the pixels that each cell of an h × w grid touches."""
    height, width = mask.shape
    grid = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            rows = range(int(np.floor(i * height / h)), int(np.ceil((i + 1) * height / h)))
            columns = range(int(np.floor(j * width / w)), int(np.ceil((j + 1) * width / w)))
            grid[i, j] = sum(float(mask[y, x]) for y in rows for x in columns) / (len(rows) * len(columns))
    return grid


def losses_by_loops(cam, mask):
    """The loss of each image; None if its mask is empty."""
    losses = []
    for g, m in zip(cam, mask, strict=True):
        if not m.any():
            losses.append(None)
            continue
        m = area_average(m[0], *g.shape)
        overlap = size_g = size_m = 0.0
        for y in range(g.shape[0]):
            for x in range(g.shape[1]):
                overlap += g[y, x] * m[y, x]
                size_g += g[y, x] ** 2
                size_m += m[y, x] ** 2
        losses.append(1 - overlap / (size_g**0.5 * size_m**0.5) if size_g else 1.0)
    return losses


GRIDS_AND_MASKS = [
    ((7, 7), (224, 224)),
    ((5, 7), (160, 224)),
    ((5, 7), (33, 50)),
    ((7, 7), (3, 4)),
    ((7, 7), (1, 1)),
    ((7, 7), (7, 7)),
    ((8, 8), (64, 5)),
    ((1, 1), (9, 9)),
]


@pytest.mark.parametrize(("grid", "size"), GRIDS_AND_MASKS)
@pytest.mark.parametrize("kind", ["bool", "uint8", "uint8 of 255", "float"])
def test_equals_loops(grid, size, kind):
    rng = np.random.default_rng(1)
    cam = np.maximum(rng.normal(size=(6, *grid)), 0)
    cam[5] = 0
    mask = rng.random((6, 1, *size)) > 0.6
    mask[:, :, 0, 0] = True
    mask[2] = False
    mask = {"bool": mask, "uint8": mask.astype(np.uint8), "uint8 of 255": mask.astype(np.uint8) * 255}.get(
        kind, mask * rng.random(mask.shape)
    )
    expected = losses_by_loops(cam, mask)
    counted = [loss for loss in expected if loss is not None]
    cam, mask = torch.from_numpy(cam), torch.from_numpy(mask)
    each = attention_loss(cam, mask, reduction="none")
    np.testing.assert_allclose(each, [0.0 if loss is None else loss for loss in expected], rtol=1e-12, atol=1e-15)
    assert torch.allclose(attention_loss(cam, mask), torch.tensor(np.mean(counted)), rtol=1e-12)
    assert torch.allclose(attention_loss(cam, mask, reduction="sum"), torch.tensor(np.sum(counted)), rtol=1e-12)
    assert torch.allclose(attention_loss(cam.float(), mask).double(), torch.tensor(np.mean(counted)), rtol=1e-5)


def test_loss_range():
    mask = torch.zeros(2, 1, 14, 14, dtype=torch.uint8)
    mask[:, :, :4, :6] = 1
    cam = torch.zeros(2, 7, 7)
    cam[0, :2, :3] = 0.3
    cam[1, 4:, 4:] = 0.3
    assert attention_loss(cam, mask, reduction="none").tolist() == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-6, 1e6, 1e18])
def test_loss_is_scale_invariant(scale):
    cam, mask = torch.rand(4, 5, 7), torch.rand(4, 1, 40, 56) > 0.5
    expected = attention_loss(cam, mask, reduction="none")
    scaled = cam.clone()
    scaled[2] *= scale
    assert torch.allclose(attention_loss(scaled, mask, reduction="none"), expected, rtol=1e-5)


def test_tiny_cam_gradient_in_float32():
    cam, mask = torch.rand(2, 5, 7), torch.rand(2, 1, 40, 56) > 0.5

    def gradient(scale, dtype):
        scaled = (cam.to(dtype) * scale).requires_grad_()
        attention_loss(scaled, mask).backward()
        # The gradient of a scale-invariant function is inversely proportional to the scale.
        return scaled.grad * scale

    expected = gradient(1.0, torch.float64)
    assert expected.abs().max() > 0.01
    assert torch.allclose(gradient(1e-20, torch.float32).double(), expected, rtol=1e-4, atol=1e-6)


def test_cam_of_the_smallest_numbers():
    """Its gradient would not be finite: it counts as dead."""
    cam, mask = torch.rand(3, 5, 7), torch.ones(3, 1, 40, 56)
    cam[1] *= 1e-44
    assert cam[1].any()
    cam.requires_grad_()
    losses = attention_loss(cam, mask, reduction="none")
    losses.sum().backward()
    assert losses[1] == 1
    assert cam.grad.isfinite().all()
    assert not cam.grad[1].any()
    assert cam.grad[0].any()


@pytest.mark.parametrize("dead", [[0], [0, 1, 2]])
def test_dead_cam(dead):
    cam = torch.rand(3, 4, 4)
    cam[dead] = 0
    cam.requires_grad_()
    losses = attention_loss(cam, torch.rand(3, 1, 16, 16) > 0.3, reduction="none")
    assert (losses[dead] == 1).all()
    losses.mean().backward()
    assert torch.isfinite(cam.grad).all()
    assert (cam.grad[dead] == 0).all()
    alive = [image for image in range(3) if image not in dead]
    assert (cam.grad[alive].abs().sum((1, 2)) > 0).all()


def test_dead_grad_cam_has_zero_gradients():
    weight = torch.full((3,), -1.0, requires_grad=True)
    maps = torch.rand(2, 3, 4, 4, requires_grad=True)
    cam = grad_cam((maps.mean((2, 3)) * weight).sum(1), maps)
    assert (cam == 0).all()
    loss = attention_loss(cam, torch.ones(2, 1, 8, 8))
    loss.backward()
    assert loss == 1
    assert (weight.grad == 0).all()
    assert (maps.grad == 0).all()


def test_empty_masks_are_left_out():
    cam, mask = torch.rand(4, 5, 7), torch.rand(4, 1, 40, 56) > 0.5
    mask[[1, 3]] = False
    cam.requires_grad_()
    loss = attention_loss(cam, mask)
    assert torch.allclose(loss, attention_loss(cam[[0, 2]], mask[[0, 2]]))
    loss.backward()
    assert (cam.grad[[1, 3]] == 0).all()
    assert (cam.grad[[0, 2]].abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_masks_empty(reduction):
    cam = torch.rand(3, 5, 7, requires_grad=True)
    loss = attention_loss(cam, torch.zeros(3, 1, 40, 56, dtype=torch.uint8), reduction=reduction)
    assert (loss == 0).all()
    loss.sum().backward()
    assert (cam.grad == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 700), st.integers(1, 700))
def test_one_pixel_mask_counts(data, h, w, height, width):
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    mask[0, 0, y, x] = 1
    # A CAM on the cell of the pixel's centre overlaps the mask for every pixel.
    cam = torch.zeros(1, h, w)
    cam[0, int((y + 0.5) * h / height), int((x + 0.5) * w / width)] = 1.0
    loss = float(attention_loss(cam, mask))
    touched = np.count_nonzero(area_average(mask[0, 0].numpy(), h, w)) if height * width < 5000 else None
    assert loss < 1
    if (height % h == 0 and width % w == 0) or touched == 1:
        assert loss == pytest.approx(0, abs=1e-6)


def test_one_pixel_of_a_large_photograph():
    mask = torch.zeros(1, 1, 3000, 4000, dtype=torch.uint8)
    mask[0, 0, 2999, 3999] = 1
    cam = torch.zeros(1, 7, 7)
    cam[0, 6, 6] = 1e-10
    assert float(attention_loss(cam, mask)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    cam, mask = (torch.rand(2, 7, 7) * 1e-4).to(dtype), torch.rand(2, 1, 56, 56) > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        loss = attention_loss(cam, mask)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, attention_loss(cam.float(), mask))


def test_error_messages():
    cam, mask = torch.rand(2, 7, 7), torch.ones(2, 1, 8, 8)
    with pytest.raises(InputError, match="mean, sum, none"):
        attention_loss(cam, mask, reduction="avg")
    for bad in (mask[0], mask[:1], mask[:, 0], mask.expand(2, 3, 8, 8)):
        with pytest.raises(InputError, match=r"CAM \(N, h, w\) and masks \(N, 1, H, W\)"):
            attention_loss(cam, bad)
    with pytest.raises(InputError, match=r"CAM \(N, h, w\)"):
        attention_loss(cam[:, None], mask)
