"""The score that a CAM explains, in training and validation, and the CAMs of images outside of training."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from castlit.attention import AttentionLoss, Embeddings, grad_cam, tap
from castlit.attention.keys import KEYS
from castlit.module.batches import check_masks
from castlit.nn import batch_statistics, unit_length

DEFAULT_TEMPERATURE = 0.2
"""For contrastive targets, where the method has no temperature: MoCo v2's."""


class Explanation(NamedTuple):
    """An encoder's features and CAMs of images, without graph."""

    features: Tensor
    """(N, C): pooled output of the backbone."""
    cam: Tensor
    """(N, h, w): Grad-CAM of the image's similarity to its own masked key."""


class Query(NamedTuple):
    """A query's embedding (N, dim), as :class:`castlit.methods.MethodOutput` has it."""

    embedding: Tensor
    """L2-normalised."""
    unnormalised: Tensor | None
    """Before its normalisation; None where the method does not give it."""


def known_negatives(method: nn.Module, attention: AttentionLoss) -> Tensor | None:
    """The keys (K, dim) that the method stores; None where it stores none or the target does not use them."""
    wanted = attention.wants_negatives and hasattr(method, "negatives")
    negatives: Tensor | None = method.negatives() if wanted else None  # type: ignore[operator]
    return negatives


def score_of(
    method: nn.Module, attention: AttentionLoss, query: "Query", z_km: Tensor, negatives: Tensor | None
) -> Tensor:
    """The scores (N,) that the CAM explains, of queries and masked keys (N, dim)."""
    temperature = float(getattr(method, "temperature", DEFAULT_TEMPERATURE))
    mean = attention.mean_key(negatives)
    return attention.score(Embeddings(query.embedding, z_km, negatives, temperature, query.unnormalised, mean))


def embed(method: nn.Module, images: Tensor) -> Query:
    """The query-side embeddings of images (N, 3, H, W); ``forward`` gives them where there is no ``embed``."""
    if _gives_unnormalised(type(method)):
        h: Tensor = method.embed_unnormalised(images)  # type: ignore[operator]
        return Query(unit_length(h), h)
    own = getattr(method, "embed", None)
    return query_of(method(images, images)) if own is None else Query(own(images), None)


def _gives_unnormalised(kind: type) -> bool:
    """Whether ``embed`` is ``embed_unnormalised``, scaled: a subclass may have overridden only the former."""
    names = ("embed", "embed_unnormalised")
    nearest = next((cls for cls in kind.__mro__ if any(name in vars(cls) for name in names)), object)
    return "embed_unnormalised" in vars(nearest)


def query_of(output: Any) -> Query:  # noqa: ANN401
    """The query in a method's output; a method of one's own may give no unnormalised embedding."""
    return Query(output.embedding, getattr(output, "unnormalised", None))


def explain(
    method: nn.Module,
    attention: AttentionLoss,
    images: Tensor,
    masks: Tensor,
    key_images: Tensor | None = None,
    key_masks: Tensor | None = None,
) -> Explanation:
    """Compute features and Grad-CAM of images, see :meth:`castlit.CASTModule.explain`."""
    encoder: nn.Module = method.encoder  # type: ignore[assignment]
    key_images = images if key_images is None else key_images
    key_masks = masks if key_masks is None else key_masks
    check_masks(masks, images, "masks")
    check_masks(key_masks, key_images, "key_masks")
    with torch.inference_mode(False):
        # A tensor made in inference mode cannot enter a graph; its copy by repeat() can.
        # A single image is doubled: batch norm raises for one value per channel.
        count = len(images)
        repeats = 2 if count == 1 else 1
        images, key_images, key_masks = (x.repeat(repeats, 1, 1, 1) for x in (images, key_images, key_masks))
        # The graph starts at the CAM's layer; a graph of the trunk would fill the memory.
        with (
            torch.no_grad(),
            tap(encoder, "backbone") as feature_map,
            tap(encoder, attention.find_layers(encoder)[-1], leaf=True) as activations,
        ):
            query = embed(method, images)
        # Without the copy: the images of a batch may be each other's negatives.
        query = Query(query.embedding[:count], None if query.unnormalised is None else query.unnormalised[:count])
        with batch_statistics(method, count):
            key = KEYS[attention.key]
            z_km = key.embed(method, key_images, key.region(key_masks))[:count]
        with torch.enable_grad():
            score = score_of(method, attention, query, z_km, known_negatives(method, attention))
            cam = grad_cam(torch.cat([score, score.new_zeros(repeats - 1)]), activations, create_graph=False)
    return Explanation(feature_map.first.detach().mean((2, 3))[:count], cam.detach()[:count])
