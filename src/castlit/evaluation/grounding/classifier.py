"""A linear classifier on a frozen backbone."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from castlit.data import EvalDataset, collate
from castlit.data.datamodules.datasets import images_on
from castlit.data.io.errors import SampleError
from castlit.data.io.source import Source
from castlit.evaluation.frozen import as_linear, linear_probe
from castlit.utils.lightning import pl

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def train_classifier(
    backbone: nn.Module, device: torch.device, data: pl.LightningDataModule, count: int
) -> nn.Linear | None:
    """Fit a linear probe on the pooled features of training images with labels.

    Args:
        backbone: In evaluation mode, on ``device``.
        device: The backbone's device.
        data: One of castlit's data modules; ``count`` of its training images are used, evenly spaced. Where the
            validation images are a sample of these, it is left out.
        count: Maximum number of images.

    Returns:
        A layer from pooled features (N, C) to logits, one for each class from 0 to the largest label, on ``device``.
        None if the training images have no labels, or only one class.
    """
    sources = getattr(data, "sources", None)
    if sources is None:
        return None
    train, val, sample = sources
    free = np.arange(len(train))
    if val is train:
        free = np.setdiff1d(free, free if sample is None else sample)
    if len(free) == 0:
        return None
    chosen = free[np.unique(np.linspace(0, len(free) - 1, min(count, len(free))).round().astype(np.int64))]
    if not _labelled(train, chosen):
        return None
    dataset = EvalDataset(train, data.size, data.val_resize, chosen)  # type: ignore[attr-defined]
    features, labels = [], []
    together = partial(collate, raw=device.type != "cpu")
    for batch in DataLoader(dataset, batch_size=data.batch_size, collate_fn=together):  # type: ignore[attr-defined]
        features.append(pooled(backbone, images_on(batch["image"], device)).cpu())
        labels.append(batch["label"])
    known = torch.cat(labels).numpy()
    if len(np.unique(known)) < 2:
        return None
    return _as_layer(linear_probe(torch.cat(features).numpy(), known), int(known.max()) + 1).to(device)


def _labelled(source: Source, indices: NDArray[np.int64]) -> bool:
    """Whether the first of these images that can be read has a label."""
    for index in indices.tolist():
        try:
            return source.read(index).label is not None
        except SampleError:
            continue
    return False


def pooled(backbone: nn.Module, images: Tensor) -> Tensor:
    """Return the pooled features (N, C) of normalised images, on their device."""
    with torch.inference_mode():
        features: Tensor = backbone(images).float().mean((2, 3))
    return features


def _as_layer(probe: "Pipeline", classes: int) -> nn.Linear:
    """Return the probe as one linear layer with a logit for each class from 0."""
    weight, bias = map(torch.from_numpy, as_linear(probe))
    layer = nn.Linear(weight.shape[1], classes)
    seen = torch.from_numpy(probe[-1].classes_)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-1e4)  # of classes that the probe has not seen
        layer.weight[seen] = weight.float()
        layer.bias[seen] = bias.float()
    return layer
