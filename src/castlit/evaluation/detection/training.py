"""Fine-tune a detector, and let it detect."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from faster_coco_eval.core import mask as coco_mask
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from castlit.evaluation.detection.data import Batch
from castlit.evaluation.detection.scoring import Counts, Detected
from castlit.evaluation.training import ProtocolTraining
from castlit.utils.distributed import world_size
from castlit.utils.validation import InputError


class Recipe(NamedTuple):
    """How long and how fast; the papers'."""

    iterations: int
    drops: tuple[int, ...]
    """After how many iterations the rate falls to a tenth."""
    lr: float = 0.02
    """For batches of 16."""
    warmup: int = 100
    """Iterations in which the rate rises, linearly, from a thousandth."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Not of norms."""

    def factor(self, step: int) -> float:
        """By what the rate is multiplied at a step."""
        rising = min(1.0, 0.001 + 0.999 * step / self.warmup) if self.warmup else 1.0
        fallen: float = 0.1 ** sum(step >= drop for drop in self.drops)
        return rising * fallen


class DetectorTraining(ProtocolTraining):
    """Trains one of torchvision's detectors; validation collects what it finds.

    Args:
        detector: Takes images in [0, 1] (it normalises by itself) and, in training, targets.
        recipe: How it is trained.
        masks: Whether it gives masks.
        identity: See :class:`castlit.evaluation.training.ProtocolTraining`.
    """

    def __init__(self, detector: GeneralizedRCNN, recipe: Recipe, masks: bool, identity: dict[str, Any]) -> None:
        super().__init__(identity)
        # Lightning leaves it to the parts' own modes, and batch norms are to be trained too.
        self.detector, self.recipe, self.masks = detector.train(), recipe, masks
        self.detected: list[Detected] = []
        """What was found by all processes in the last validation, by image."""
        self._last: tuple[Tensor, Tensor] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        losses: dict[str, Tensor] = self.detector(_numbers(batch["images"]), batch["targets"])
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        count = len(batch["images"])
        self._last = (loss.detach(), batch["index"])
        self.log("train/loss", loss, prog_bar=True, batch_size=count)
        parts = {name.removeprefix("loss_"): value.detach() for name, value in losses.items()}
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=count)
        return {"loss": loss, **parts}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop where a gradient is not finite, but leave it to a gradient scaler to skip what its scale made so.

        All processes have the same gradients, so that they stop together.

        Raises:
            InputError: A gradient is NaN or infinite; the message names the images where the loss is, too.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        # Looking waits for a GPU; but so do proposals, many times in each step.
        if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
            if self._last is not None and not self._last[0].isfinite():
                images = self.trainer.datamodule.sources[0]  # type: ignore[attr-defined]
                files = ", ".join(str(images.image_path(index)) for index in self._last[1].tolist())
                raise InputError(
                    f"the loss is {self._last[0].item()} at step {self.trainer.global_step}, of {files}: lower "
                    f"protocol.lr={self.recipe.lr}, or look at these images"
                )
            names = [n for n, p in self.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            raise InputError(
                f"gradients are not finite at step {self.trainer.global_step} ({len(names)} parameters, the first is "
                f"{names[0] if names else 'too large'}): lower protocol.lr={self.recipe.lr}, or raise protocol.warmup"
            )

    def on_validation_epoch_start(self) -> None:
        """Forget what was found before."""
        self.detected = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Note what the detector finds."""
        for number, found in zip(batch["number"].tolist(), self.detector(_numbers(batch["images"])), strict=True):
            masks = [_counts(mask) for mask in found["masks"]] if self.masks else None
            boxes, scores, labels = (found[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
            self.detected.append(Detected(number, boxes, scores, labels.astype(np.int64), masks))

    def on_validation_epoch_end(self) -> None:
        """Bring together what all processes found, each image once."""
        everybodys = [self.detected]
        if world_size() > 1:
            everybodys = [[] for _ in range(world_size())]
            dist.all_gather_object(everybodys, self.detected)
        by_image = {found.number: found for ones in everybodys for found in ones}
        self.detected = [by_image[number] for number in sorted(by_image)]

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of everything
        """SGD without weight decay of norms, and the rate step by step."""
        norms = {
            id(parameter)
            for part in self.modules()
            if isinstance(part, (_BatchNorm, nn.GroupNorm, nn.LayerNorm))
            for parameter in part.parameters(recurse=False)
        }
        groups = [
            {"params": [p for p in self.parameters() if id(p) not in norms], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in self.parameters() if id(p) in norms], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, self.recipe.lr, self.recipe.momentum)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.recipe.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _numbers(images: list[Tensor]) -> list[Tensor]:
    """Bytes as numbers in [0, 1]."""
    return [image.float() / 255 for image in images]


def _counts(mask: Tensor) -> Counts:
    """A soft mask (1, H, W), cut at one half, as run lengths."""
    hard = (mask[0] > 0.5).to(torch.uint8).cpu().numpy()
    runs: Counts = coco_mask.encode(np.asfortranarray(hard))
    return runs
