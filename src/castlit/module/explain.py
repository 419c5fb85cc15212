"""The score that a CAM explains, in training and validation, and the CAMs of images outside of training."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from castlit.attention import AttentionLoss, Embeddings, grad_cam, tap
from castlit.attention.keys import KEYS
from castlit.nn import batch_statistics

DEFAULT_TEMPERATURE = 0.2
"""For contrastive targets, where the method has no temperature: MoCo v2's."""


class Explanation(NamedTuple):
    """An encoder's features and CAMs of images, without graph."""

    features: Tensor
    """(N, C): pooled output of the backbone."""
    cam: Tensor
    """(N, h, w): Grad-CAM of the image's similarity to its own masked key."""


def known_negatives(method: nn.Module, look: AttentionLoss) -> Tensor | None:
    """The keys (K, dim) that the method stores; None where it stores none or the target does not use them."""
    wanted = look.wants_negatives and hasattr(method, "negatives")
    negatives: Tensor | None = method.negatives() if wanted else None  # type: ignore[operator]
    return negatives


def score_of(method: nn.Module, look: AttentionLoss, z_q: Tensor, z_km: Tensor, negatives: Tensor | None) -> Tensor:
    """The scores (N,) that the CAM explains, of queries and masked keys, both (N, dim)."""
    temperature = float(getattr(method, "temperature", DEFAULT_TEMPERATURE))
    return look.score(Embeddings(z_q, z_km, negatives, temperature))


def embed(method: nn.Module, images: Tensor) -> Tensor:
    """The query-side embeddings (N, dim) of images (N, 3, H, W); ``forward`` gives them where there is no ``embed``."""
    own = getattr(method, "embed", None)
    z_q: Tensor = method(images, images).embedding if own is None else own(images)
    return z_q


def explain(method: nn.Module, look: AttentionLoss, images: Tensor, masks: Tensor) -> Explanation:
    """Compute features and Grad-CAM of images, see :meth:`castlit.CASTModule.explain`."""
    encoder: nn.Module = method.encoder  # type: ignore[assignment]
    with torch.inference_mode(False):
        # A tensor made in inference mode cannot enter a graph; its copy by repeat() can.
        # A single image is doubled: batch norm raises for one value per channel.
        count = len(images)
        repeats = 2 if count == 1 else 1
        images, masks = images.repeat(repeats, 1, 1, 1), masks.repeat(repeats, 1, 1, 1)
        # The graph starts at the CAM's layer; a graph of the trunk would fill the memory.
        with (
            torch.no_grad(),
            tap(encoder, "backbone") as feature_map,
            tap(encoder, look.find_layers(encoder)[-1], leaf=True) as activations,
        ):
            z_q = embed(method, images)
        with batch_statistics(method, count):
            key = KEYS[look.key]
            z_km = key.embed(method, images, key.region(masks))
        with torch.enable_grad():
            score = score_of(method, look, z_q, z_km, known_negatives(method, look))
            cam = grad_cam(score, activations, create_graph=False)
    return Explanation(feature_map.first.detach().mean((2, 3))[:count], cam.detach()[:count])
