"""A linear classifier on a frozen backbone, trained on the spot."""

from collections.abc import Mapping

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from castlit.data import EvalDataset, collate
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Source
from castlit.evaluation.linear import linear_probe


def train_classifier(
    backbone: nn.Module, device: torch.device, data: pl.LightningDataModule, count: int
) -> nn.Linear | None:
    """Fit a linear probe on the pooled features of training images with labels.

    Args:
        backbone: In evaluation mode, on ``device``.
        device: Where it is.
        data: A data module of castlit's; of its training images, ``count`` are taken, evenly over all.
        count: At most so many images.

    Returns:
        From pooled features (N, C) to logits, on ``device``: one for each number from 0 to the largest label. None
        where the training images have no labels, or one class only.
    """
    sources = getattr(data, "sources", None)
    if sources is None or len(sources[0]) == 0:
        return None
    chosen = np.unique(np.linspace(0, len(sources[0]) - 1, min(count, len(sources[0]))).round().astype(np.int64))
    if not _labelled(sources[0], int(chosen[0])):
        return None
    dataset = EvalDataset(sources[0], data.size, data.val_resize, chosen)  # type: ignore[attr-defined]
    features, labels = [], []
    for batch in DataLoader(dataset, batch_size=data.batch_size, collate_fn=collate):  # type: ignore[attr-defined]
        features.append(pooled(backbone, batch, device))
        labels.append(batch["label"])
    known = torch.cat(labels).numpy()
    if len(np.unique(known)) < 2:
        return None
    scaler, probe = linear_probe(torch.cat(features).numpy(), known)
    return _as_layer(scaler, probe, int(known.max()) + 1).to(device)


def _labelled(source: Source, index: int) -> bool:
    try:
        return source.read(index).label is not None
    except SampleError:
        return False


def pooled(backbone: nn.Module, batch: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """The pooled features (N, C) of a batch, on the CPU."""
    with torch.inference_mode():
        features: Tensor = backbone(batch["image"].to(device)).float().mean((2, 3)).cpu()
    return features


def _as_layer(scaler: object, probe: object, classes: int) -> nn.Linear:
    """Standardisation and logistic regression as one linear layer."""
    weight = torch.from_numpy(probe.coef_ / scaler.scale_)  # type: ignore[attr-defined]
    bias = torch.from_numpy(probe.intercept_) - weight @ torch.from_numpy(scaler.mean_)  # type: ignore[attr-defined]
    if len(weight) == 1:  # Of two classes, scikit-learn keeps the second's logit alone.
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    layer = nn.Linear(weight.shape[1], classes)
    present = torch.from_numpy(probe.classes_)  # type: ignore[attr-defined]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-1e4)  # A class that was never seen.
        layer.weight[present] = weight.float()
        layer.bias[present] = bias.float()
    return layer
