"""The attention loss: one minus the cosine between CAM and mask, per image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from castlit.nn.mask_grid import mask_grid, mask_weights
from castlit.utils.dtype import at_least_float32, without_autocast
from castlit.utils.validation import InputError, require_choice


def attention_loss(cam: Tensor, mask: Tensor, reduction: str = "mean") -> Tensor:
    """Compute L_att = 1 - ⟨G, M⟩ / (‖G‖ ‖M‖) per image: 0 where CAM and mask are the same, 1 where they do not overlap.

    A CAM before its ReLU can be compared, too; then the loss reaches 2, where the CAM is the mask's negative.

    Images with an empty mask are left out. A dead CAM (all zero) has a loss of 1, with a zero gradient and no NaN.

    Args:
        cam: CAMs (N, h, w); their scale does not matter.
        mask: Masks (N, 1, H, W) of any size. Floats are weights in [0, 1]; of any other type, nonzero pixels are the
            object. They are averaged over the CAM's cells, so even a one-pixel mask counts.
        reduction: ``"mean"`` over the images with a mask, ``"sum"``, or ``"none"``.

    Returns:
        A scalar (0 if no image has a mask), or for ``"none"`` the losses (N,), 0 where the mask is empty.

    Raises:
        InputError: The shapes disagree, or there is no such reduction.
    """
    require_choice("reduction", reduction, ("mean", "sum", "none"))
    check_shapes(cam, mask)
    with without_autocast(cam.device):
        flat_cam = _scaled(at_least_float32(cam).flatten(1))
        # Pooling the mask in the CAM's precision keeps a one-pixel mask of a 4000 × 3000 image above zero.
        grid = mask_grid(mask, (cam.shape[1], cam.shape[2]), flat_cam.dtype).flatten(1)
        flat_mask = _scaled(grid)
        losses = 1.0 - (flat_cam * flat_mask).sum(1) / (_safe_norm(flat_cam) * _safe_norm(flat_mask))
        has_mask = (grid > 0).any(1)
        losses = torch.where(has_mask, losses, losses.new_zeros(()))
        if reduction == "none":
            return losses
        total = losses.sum()
        return total if reduction == "sum" else total / has_mask.sum().clamp(min=1)


def reference_attention_loss(raw_cam: Tensor, mask: Tensor) -> Tensor:
    """Compute the loss as the public reference code does, for comparisons with it.

    It differs from the paper in three ways: the CAM is min-max scaled per image before the ReLU, which then has no
    effect; the mask is sampled at points of the CAM's grid; and there is one cosine over the whole batch.

    Args:
        raw_cam: CAMs (N, h, w) before the ReLU.
        mask: Masks (N, 1, H, W).

    Returns:
        A scalar.

    Raises:
        InputError: The shapes disagree.
    """
    check_shapes(raw_cam, mask)
    with without_autocast(raw_cam.device):
        flat = at_least_float32(raw_cam).flatten(1)
        for _ in range(2):  # The reference scales twice; the second time only the epsilon acts.
            flat = flat - flat.amin(1, keepdim=True)
            flat = flat / (flat.amax(1, keepdim=True) + 1e-7)
        points = F.interpolate(mask_weights(mask, flat.dtype), raw_cam.shape[-2:], mode="bilinear", align_corners=True)
        return 1.0 - F.cosine_similarity(flat.flatten(), points.flatten(), dim=0)


def peak_one(cam: Tensor) -> Tensor:
    """Divide each CAM (N, h, w) by its largest size, in float32 or wider: sums of huge ones do not overflow."""
    return _scaled(at_least_float32(cam).flatten(1)).view_as(cam)


def enlarge_cams(cam: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize CAMs (N, h, w) bilinearly to an image's size: (N, H, W), in float32 or wider, without graph.

    Every metric that compares a CAM with a mask uses it: pointing, energy and IoU.
    """
    wide = at_least_float32(cam.detach())[:, None]
    return F.interpolate(wide, tuple(size), mode="bilinear", align_corners=False)[:, 0]


def pointing_hits(cam: Tensor, mask: Tensor) -> Tensor:
    """Play the pointing game: is the CAM's maximum on the mask? (Zhang et al., ECCV 2016, without tolerance).

    The maximum is that of the CAM enlarged to the mask's size (:func:`enlarge_cams`). It may be several pixels: between
    two cells, or the whole edge of a cell at the image's border, where the enlarged CAM is flat.

    Args:
        cam: CAMs (N, h, w).
        mask: Masks (N, 1, H, W), nonzero on the object.

    Returns:
        Booleans (N,): whether at least half of the pixels at the maximum are on the mask. A dead CAM is a miss.

    Raises:
        InputError: The shapes disagree.
    """
    check_shapes(cam, mask)
    large = enlarge_cams(peak_one(cam), mask.shape[-2:]).flatten(1)
    top = large.amax(1, keepdim=True)
    # Pixels that are equal but for rounding.
    peak = large >= top * (1 - 1e-5)
    on_mask = (peak & (mask.flatten(1) > 0)).sum(1)
    return (2 * on_mask >= peak.sum(1)) & (top[:, 0] > 0)


def has_object(mask: Tensor) -> Tensor:
    """Return booleans (N,): which of the masks (N, 1, H, W) are not empty."""
    return mask.flatten(1).amax(1) > 0


def check_shapes(cam: Tensor, mask: Tensor) -> None:
    """Raise an :class:`InputError` unless the CAM is (N, h, w) and the mask (N, 1, H, W)."""
    if cam.dim() != 3 or mask.dim() != 4 or mask.shape[:2] != (cam.shape[0], 1):
        raise InputError(
            f"needs a CAM (N, h, w) and masks (N, 1, H, W), got {tuple(cam.shape)} and {tuple(mask.shape)}"
        )


def _scaled(x: Tensor) -> Tensor:
    """Divide each row by its largest size: the cosine stays the same, and squares of tiny numbers do not underflow."""
    top = x.detach().abs().amax(1, keepdim=True)
    # A row of zeros is divided by infinity: it stays zero, and so does its gradient. So is one so small that the
    # gradient, which is divided by it, would be infinite.
    return x / top.masked_fill(top < torch.finfo(x.dtype).tiny, torch.inf)


def _safe_norm(x: Tensor) -> Tensor:
    """Return the rows' norms, and 1 for rows of zeros, where the gradient of the root would be infinite."""
    squares = x.square().sum(1)
    return torch.where(squares > 0, squares, torch.ones_like(squares)).sqrt()
