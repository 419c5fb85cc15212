"""What a CAM can explain: a network's pretext score, its features, or a classifier on them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.attention import grad_cam, has_object, tap
from castlit.evaluation.network import Explain, Network
from castlit.nn import Encoder, attention_layer

Batch = Mapping[str, Tensor]
"""``image`` (N, 3, H, W), normalised; ``mask`` (N, 1, H, W); ``label`` (N,) if there are labels. On the device."""

Question = Callable[[Batch], Tensor]
"""Maps a batch to its CAMs (N, h, w)."""

SHUFFLED_KEYS = "pretext_shuffled_keys"

QUESTIONS = ("pretext", SHUFFLED_KEYS, "features", "classifier")
"""Their names, see :func:`questions`."""

Score = Callable[[Tensor, Batch], Tensor]


def questions(
    network: Network, layer: str | None = None, classifier: nn.Linear | None = None, shuffled: bool = False
) -> dict[str, Question]:
    """Return the questions that a network can answer.

    - ``pretext``, for checkpoints of castlit's training: which part of the image makes it match its masked version. The
      score is computed with the image's own mask.
    - ``pretext_shuffled_keys``, the same with the masked key of another image of the batch.
    - ``features``, for every network: what its pooled features f consist of. The score is ⟨f, f/‖f‖⟩ with the second
      factor constant, so that each position of the last feature map counts by its inner product with the mean of all.
      It uses neither mask nor label.
    - ``classifier``: the logit of the image's label; no CAM if the classifier has not seen the class.

    Args:
        network: The network.
        layer: Layer of the last two CAMs, by name in the backbone; None: the last feature map.
        classifier: Maps pooled features (N, C) to logits, on the network's device.
        shuffled: Whether to ask the second question.
    """
    found: dict[str, Question] = {}
    if network.explain is not None:
        explain = network.explain
        found["pretext"] = lambda batch: explain(batch["image"], batch["mask"])[1]
        if shuffled:
            found[SHUFFLED_KEYS] = lambda batch: _with_other_keys(explain, batch)
    name = layer or attention_layer(network.backbone)
    found["features"] = _cam_of(Encoder(network.backbone, nn.Identity()), name, _own_direction)
    if classifier is not None:
        found["classifier"] = _cam_of(Encoder(network.backbone, classifier), name, _logit_of_label)
    return found


def partners(mask: Tensor) -> Tensor:
    """Pair each image with another one that has an object.

    Args:
        mask: (N, 1, H, W); N' of them are not empty.

    Returns:
        Indices (N,): among the images with an object, the one half of them further on; for all others, their own. The
        distance is half because neighbours may be of one class.
    """
    own = torch.arange(len(mask), device=mask.device)
    some = own[has_object(mask)]
    return own.index_copy(0, some, some.roll(len(some) // 2))


def _with_other_keys(explain: Explain, batch: Batch) -> Tensor:
    """CAMs (N, h, w); zero for an image that has no partner."""
    other = partners(batch["mask"])
    cams: Tensor = explain(batch["image"], batch["mask"], batch["image"][other], batch["mask"][other])[1]
    return cams * (other != torch.arange(len(other), device=other.device))[:, None, None]


def _own_direction(features: Tensor, batch: Batch) -> Tensor:
    return (features * F.normalize(features.detach(), dim=1)).sum(1)


def _logit_of_label(logits: Tensor, batch: Batch) -> Tensor:
    label = batch["label"]
    known = label < logits.shape[1]  # Nothing to explain for a class that the classifier has not seen.
    return logits.gather(1, label.clamp(max=logits.shape[1] - 1)[:, None])[:, 0] * known


def _cam_of(encoder: Encoder, layer: str, score_of: Score) -> Question:
    encoder.eval()

    def ask(batch: Batch) -> Tensor:
        with torch.inference_mode(False):
            # Only the part after the layer needs a graph.
            with torch.no_grad(), tap(encoder, layer, leaf=True) as activations:
                output = encoder(batch["image"])
            with torch.enable_grad():
                return grad_cam(score_of(output, batch), activations, create_graph=False).detach()

    return ask
