"""Grad-CAM, differentiable (Selvaraju et al., ICCV 2017, equations 1 and 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from castlit.attention.hooks import Activations
from castlit.nn.head_norm import held_statistics
from castlit.utils.dtype import at_least_float32, without_autocast
from castlit.utils.validation import InputError


def grad_cam(
    score: Tensor, activations: Tensor | Activations, create_graph: bool = True, positive_weights: bool = False
) -> Tensor:
    """Compute the Grad-CAM of a score: G = ReLU(Σ_c α_c A_c), with α_c the spatial mean of ∂score/∂A_c.

    It runs in float32 also under autocast. Each image's CAM depends on its own score only and is not scaled by
    another's: the statistics of a head's batch norm behind the layer count as constants, see
    :func:`castlit.nn.head_norm.held_statistics`. Other batch norms in training mode mix the images' scores.

    Args:
        score: One score per image, (N,), computed from the activations.
        activations: Output (N, C, h, w) of a layer, or the record of :func:`castlit.attention.tap` (its first output).
        create_graph: Keep the graph, so that a loss on the CAM trains the network (second order).
        positive_weights: Leave out the channels that lower the score: ReLU(α_c) instead of α_c (ContraCAM: Mo et al.,
            NeurIPS 2021).

    Returns:
        The CAM (N, h, w), not negative, not scaled.

    Raises:
        InputError: The shapes disagree, or the score does not depend on the activations.
    """
    return raw_cam(score, activations, create_graph, positive_weights).relu()


def raw_cam(
    score: Tensor, activations: Tensor | Activations, create_graph: bool = True, positive_weights: bool = False
) -> Tensor:
    """Compute the CAM before its ReLU: Σ_c α_c A_c, (N, h, w). Arguments and errors as in :func:`grad_cam`."""
    return raw_cams(score, [activations], create_graph, positive_weights)[0]


def raw_cams(
    score: Tensor, layers: Sequence[Tensor | Activations], create_graph: bool = True, positive_weights: bool = False
) -> list[Tensor]:
    """Compute the CAMs of several layers before their ReLUs, in one backward pass; see :func:`grad_cam`."""
    maps = [each.first if isinstance(each, Activations) else each for each in layers]
    for each in maps:
        if each.dim() != 4 or score.shape != each.shape[:1]:
            raise InputError(
                "grad_cam needs a score (N,) and activations (N, C, h, w), "
                f"got {tuple(score.shape)} and {tuple(each.shape)}"
            )
    if not score.requires_grad and torch.is_inference_mode_enabled():
        raise InputError(
            "grad_cam needs a score with a graph, which inference mode does not allow: for trainer.validate and test, "
            "build the trainer with inference_mode=False"
        )
    if not score.requires_grad:
        raise InputError("grad_cam needs a score with a graph: compute it under torch.enable_grad()")
    if not all(each.requires_grad for each in maps):
        raise InputError(
            "the layer's output has no graph: all layers up to it are frozen, or ran under torch.no_grad(). An "
            "attention loss on frozen layers has nothing to train: unfreeze some, or leave it out"
        )
    # With constant statistics each score depends on its own image only, so the gradient of the sum contains each
    # image's gradient.
    with without_autocast(score.device), held_statistics():
        # Keep the graph in any case: the caller's backward pass goes through the same score.
        gradients = torch.autograd.grad(
            score.sum(), maps, create_graph=create_graph, retain_graph=True, allow_unused=True
        )
        return [_weighted(each, gradient, positive_weights) for each, gradient in zip(maps, gradients, strict=True)]


def _weighted(maps: Tensor, gradient: Tensor | None, positive_weights: bool) -> Tensor:
    if gradient is None:
        raise InputError("the score does not depend on the activations: tap the layer in the pass that made the score")
    weights = at_least_float32(gradient).mean((2, 3))
    return torch.einsum("nc,nchw->nhw", weights.relu() if positive_weights else weights, at_least_float32(maps))
