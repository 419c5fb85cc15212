"""Online probes: metrics of the encoder on the validation batches while it trains."""

from collections.abc import Mapping

import torch
from torch import Tensor

from castlit.attention import has_object, pointing_hits
from castlit.callbacks.validation_parts import part_for
from castlit.nn.nearest_neighbours import knn_accuracy
from castlit.utils.distributed import gather
from castlit.utils.lightning import pl
from castlit.utils.validation import require_int, require_number


class KNNProbe(pl.Callback):
    """Logs ``val/knn``: the accuracy of a k-nearest-neighbour classifier, each image against the others.

    Its images are those of the first validation loader. Without labels nothing is logged.

    Args:
        k: Number of neighbours.
        temperature: T of the weighted vote, > 0.
    """

    def __init__(self, k: int = 20, temperature: float = 0.07) -> None:
        self.k = require_int("callbacks.knn.k", k, low=1)
        self.temperature = require_number("callbacks.knn.temperature", temperature, above=0)
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the last validation."""
        self._seen.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's features."""
        if dataloader_idx == 0 and isinstance(batch, Mapping) and "label" in batch:
            # Only several processes need to know which image it is.
            index = batch["index"] if trainer.world_size > 1 else batch["label"]
            self._seen.append((part_for(self, "features", outputs), batch["label"], index))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Classify every validation image by all others, over all ranks."""
        if not self._seen:
            return
        features, labels, index = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        if trainer.world_size > 1:
            features, labels, index = (gather(x) for x in (features, labels, index))
            # Lightning repeats images to make the ranks equal; a copy would be its own neighbour.
            order = index.argsort()
            first = torch.ones_like(order, dtype=torch.bool)
            first[1:] = index[order][1:] != index[order][:-1]
            features, labels = features[order[first]], labels[order[first]]
        self._seen.clear()
        if len(labels) > 1:
            accuracy = knn_accuracy(features, labels, k=self.k, temperature=self.temperature)
            pl_module.log("val/knn", accuracy, prog_bar=True, rank_zero_only=True)


class PointingProbe(pl.Callback):
    """Logs ``val/pointing``: the fraction of validation images whose CAM has its maximum on the mask.

    Its images are those of the first validation loader. Those without a mask are left out; if no image has one, nothing
    is logged.
    """

    def __init__(self) -> None:
        self._counts: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the last validation."""
        self._counts.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count hits and images with a mask."""
        if dataloader_idx > 0:
            return
        mask = part_for(self, "mask", batch)
        has_mask = has_object(mask)
        hits = pointing_hits(part_for(self, "cam", outputs), mask) & has_mask
        self._counts.append(torch.stack([hits.sum(), has_mask.sum()]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the fraction over all ranks."""
        counts = torch.stack(self._counts).sum(0) if self._counts else torch.zeros(2, device=pl_module.device)
        hits, images = trainer.strategy.reduce(counts.float(), reduce_op="sum").tolist()
        self._counts.clear()
        if images:
            pl_module.log("val/pointing", hits / images, prog_bar=True, rank_zero_only=True)
