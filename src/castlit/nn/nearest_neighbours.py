"""Nearest-neighbour classification of features (Wu et al., CVPR 2018)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from castlit.utils.validation import InputError, require_int, require_number


def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    bank: tuple[Tensor, Tensor] | None = None,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Classify each feature by the weighted vote of its k nearest neighbours by cosine s, with weights exp(s / T).

    Args:
        features: (N, C), on any scale.
        labels: (N,) integers from 0.
        bank: Features and labels of the neighbours. ``None``: leave one out, each image's neighbours are the others.
        k: Number of neighbours; fewer if the bank has fewer.
        temperature: T > 0.

    Returns:
        Accuracy in [0, 1].

    Raises:
        InputError: No neighbours, or an argument out of range.
    """
    require_int("k", k, low=1)
    require_number("temperature", temperature, above=0)
    bank_features, bank_labels = (features, labels) if bank is None else bank
    available = len(bank_features) - (bank is None)
    if len(features) == 0 or available < 1:
        raise InputError("knn_accuracy needs at least one image and one neighbour")
    similarity = _unit(features) @ _unit(bank_features).T
    if bank is None:
        similarity.fill_diagonal_(-torch.inf)
    nearest, positions = similarity.topk(min(k, available), dim=1)
    votes = similarity.new_zeros(len(features), int(bank_labels.max()) + 1)
    # Relative to the nearest, so exp is finite at any temperature.
    votes.scatter_add_(1, bank_labels[positions], ((nearest - nearest[:, :1]) / temperature).exp())
    return (votes.argmax(1) == labels).float().mean().item()


def _unit(features: Tensor) -> Tensor:
    """Scale rows to length 1, of zeros to 0; their squares may be too large or too small for float32."""
    features = features.float()
    largest = features.abs().amax(1, keepdim=True)
    return F.normalize(features / largest.masked_fill(largest == 0, 1), dim=1)
