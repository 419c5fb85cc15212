"""A training of a saliency network on pseudo-labels."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.data.datamodules.datasets import normalise
from castlit.optim import OptimizerRecipe
from castlit.saliency.deepusps.augment import augment
from castlit.utils.bar_metrics import log_and_show
from castlit.utils.lightning import pl

BETA_SQUARED = 0.3
"""Weight of precision against recall, as is usual for saliency (Achanta et al., CVPR 2009)."""


def soft_f_beta(prediction: Tensor, target: Tensor, beta_squared: float = BETA_SQUARED) -> Tensor:
    """The F-measure of soft maps: precision and recall from sums of products.

    With P = Σ p·t / Σ p and R = Σ p·t / Σ t it is (1 + β²) P R / (β² P + R) = (1 + β²) Σ p·t / (Σ p + β² Σ t).

    Args:
        prediction: p, (..., H, W), in [0, 1].
        target: t, of the same shape, in [0, 1].
        beta_squared: β² > 0.

    Returns:
        (...), in [0, 1]; 0 if prediction or target is empty.
    """
    common = (prediction * target).sum((-2, -1))
    total = prediction.sum((-2, -1)) + beta_squared * target.sum((-2, -1))
    return (1 + beta_squared) * common / total.clamp(min=1e-6)


def f_beta_loss(prediction: Tensor, targets: Tensor, beta_squared: float = BETA_SQUARED) -> Tensor:
    """1 - F, averaged over the maps that are not empty.

    Args:
        prediction: (N, 1, H, W), in [0, 1].
        targets: (N, K, H, W), in [0, 1]: K maps for each image.
        beta_squared: β² > 0.

    Returns:
        A scalar; 0 if all targets are empty.
    """
    present = targets.flatten(2).amax(2) > 0
    losses = 1 - soft_f_beta(prediction.expand_as(targets), targets, beta_squared)
    return (losses * present).sum() / present.sum().clamp(min=1)


class SaliencyTraining(pl.LightningModule):
    """Trains a network to predict maps.

    Batches have ``image`` (N, 3, S, S) and ``targets`` (N, K, S, S), both uint8 in [0, 255].

    Args:
        network: Maps normalised images (N, 3, H, W) to logits (N, 1, h, w).
        optimizer: Optimiser and schedule.
        view: Side in pixels of the random views to train on. Views are crops, so they are smaller than the images:
            objects then have about the same size in pixels as at test time (Touvron et al., Fixing the train-test
            resolution discrepancy, NeurIPS 2019).
        seed: Seed of the random views. They depend on epoch and batch only, so a run can resume at any epoch.
    """

    def __init__(self, network: nn.Module, optimizer: OptimizerRecipe, view: int, seed: int = 0) -> None:
        super().__init__()
        self.network, self.optimizer, self.view, self.seed = network, optimizer, view, seed

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [0, 255] to the probability (N, 1, H, W) of salient."""
        logits = F.interpolate(self.network(normalise(images)).float(), images.shape[2:], mode="bilinear")
        return logits.sigmoid()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch's random views."""
        rng = torch.Generator().manual_seed(_draw(self.seed, self.current_epoch, batch_idx))
        images, targets = augment(batch["image"].float() / 255, batch["targets"].float() / 255, self.view, rng)
        loss = f_beta_loss(self(images * 255), targets)
        log_and_show(self, "train/loss", loss, len(images))
        return loss

    def configure_optimizers(self) -> pl.utilities.types.OptimizerLRSchedulerConfig:
        """Build optimiser and schedule for the length of this training."""
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = int(self.trainer.num_training_batches)
        optimizer, scheduler = self.optimizer.build(self.parameters(), total, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _draw(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
