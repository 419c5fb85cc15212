"""Grad-CAM, differentiable (Selvaraju et al., ICCV 2017, equations 1 and 2)."""

import torch
from torch import Tensor

from castlit.attention.hooks import Activations
from castlit.nn.checks import InputError
from castlit.nn.head_norm import held_statistics
from castlit.nn.precision import at_least_float32


def grad_cam(score: Tensor, activations: Tensor | Activations, create_graph: bool = True) -> Tensor:
    """Compute where a score comes from: G = ReLU(Σ_c α_c A_c), with α_c the spatial mean of ∂score/∂A_c.

    It runs in float32 also under autocast, and for one image at a time: no image's CAM is scaled by another's, nor does
    it depend on another's score. Behind the layer, statistics of a head's batch norm count as constants for this,
    see :func:`castlit.nn.head_norm.held_statistics`; other batch norms in training mode let others' scores in.

    Args:
        score: One score per image, (N,), computed from the activations.
        activations: Output (N, C, h, w) of a layer, or what :func:`castlit.attention.tap` recorded (its first output).
        create_graph: Keep the graph, so that a loss on the CAM trains the network (second order).

    Returns:
        The CAM (N, h, w), not negative, not scaled.

    Raises:
        InputError: The shapes disagree, or the score does not depend on the activations.
    """
    return raw_cam(score, activations, create_graph).relu()


def raw_cam(score: Tensor, activations: Tensor | Activations, create_graph: bool = True) -> Tensor:
    """Compute the CAM before its ReLU: Σ_c α_c A_c, (N, h, w). Arguments and errors as in :func:`grad_cam`."""
    maps = activations.first if isinstance(activations, Activations) else activations
    if maps.dim() != 4 or score.shape != maps.shape[:1]:
        raise InputError(
            "grad_cam needs a score (N,) and activations (N, C, h, w), "
            f"got {tuple(score.shape)} and {tuple(maps.shape)}"
        )
    if not (score.requires_grad and maps.requires_grad):
        raise InputError("grad_cam needs a score and activations with a graph: compute both under torch.enable_grad()")
    # With the statistics held, each score depends on its own image only, and the gradient of the sum holds every
    # image's gradient.
    with torch.autocast(maps.device.type, enabled=False), held_statistics():
        # The graph is kept in any case: the caller's backward pass goes through the same score.
        (gradient,) = torch.autograd.grad(
            score.sum(), maps, create_graph=create_graph, retain_graph=True, allow_unused=True
        )
        if gradient is None:
            raise InputError(
                "the score does not depend on the activations: tap the layer in the pass that made the score"
            )
        weights = at_least_float32(gradient).mean((2, 3))
        return torch.einsum("nc,nchw->nhw", weights, at_least_float32(maps))
