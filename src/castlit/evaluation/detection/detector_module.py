"""The Lightning module that trains a detector and collects its detections."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from faster_coco_eval.core import mask as coco_mask
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from castlit.evaluation.detection.data import Batch
from castlit.evaluation.detection.scores import Detected, RunLengths
from castlit.evaluation.detection.settings import DetectorSettings
from castlit.evaluation.training import ProtocolTraining
from castlit.utils.bar_metrics import log_and_show
from castlit.utils.distributed import world_size
from castlit.utils.validation import InputError

MOMENTUM = 0.9
"""Of SGD."""


class DetectorTraining(ProtocolTraining):
    """Trains one of torchvision's detectors; validation collects its detections.

    Args:
        detector: Takes images in [0, 1] (it normalises by itself) and, in training, targets.
        settings: How it is trained.
        masks: Whether it predicts masks.
        identity: See :class:`castlit.evaluation.training.ProtocolTraining`.
    """

    def __init__(
        self, detector: GeneralizedRCNN, settings: DetectorSettings, masks: bool, identity: dict[str, Any]
    ) -> None:
        super().__init__(identity)
        # Lightning keeps the modes of the parts, and batch norms must be trained too.
        self.detector, self.settings, self.masks = detector.train(), settings, masks
        self.detected: list[Detected] = []
        """Detections of all processes in the last validation, by image."""
        self._last: tuple[Tensor, Tensor] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        losses: dict[str, Tensor] = self.detector(_to_floats(batch["images"]), batch["targets"])
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        count = len(batch["images"])
        self._last = (loss.detach(), batch["index"])
        log_and_show(self, "train/loss", loss, count)
        parts = {name.removeprefix("loss_"): value.detach() for name, value in losses.items()}
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=count)
        return {"loss": loss, **parts}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop when a gradient is not finite, unless a gradient scaler is in use, which skips such steps.

        All processes have the same gradients, so they stop together.

        Raises:
            InputError: A gradient is NaN or infinite; the message names the images if the loss is, too.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        # The check waits for the GPU, but so do the proposals, many times per step.
        if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
            if self._last is not None and not self._last[0].isfinite():
                images = self.trainer.datamodule.sources[0]  # type: ignore[attr-defined]
                files = ", ".join(str(images.image_path(index)) for index in self._last[1].tolist())
                raise InputError(
                    f"the loss is {self._last[0].item()} at step {self.trainer.global_step}, of {files}: lower "
                    f"protocol.lr={self.settings.lr}, or look at these images"
                )
            names = [n for n, p in self.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            raise InputError(
                f"gradients are not finite at step {self.trainer.global_step} ({len(names)} parameters, the first is "
                f"{names[0] if names else 'too large'}): lower protocol.lr={self.settings.lr}, or raise protocol.warmup"
            )

    def on_validation_epoch_start(self) -> None:
        """Clear the detections."""
        self.detected = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the detections."""
        for number, found in zip(batch["number"].tolist(), self.detector(_to_floats(batch["images"])), strict=True):
            masks = [_encode(mask) for mask in found["masks"]] if self.masks else None
            boxes, scores, labels = (found[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
            self.detected.append(Detected(number, boxes, scores, labels.astype(np.int64), masks))

    def on_validation_epoch_end(self) -> None:
        """Gather the detections of all processes, each image once."""
        gathered = [self.detected]
        if world_size() > 1:
            gathered = [[] for _ in range(world_size())]
            dist.all_gather_object(gathered, self.detected)
        by_image = {found.number: found for ones in gathered for found in ones}
        self.detected = [by_image[number] for number in sorted(by_image)]

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of everything
        """SGD without weight decay of norms; the learning rate changes at each step."""
        norms = {
            id(parameter)
            for part in self.modules()
            if isinstance(part, (_BatchNorm, nn.GroupNorm, nn.LayerNorm))
            for parameter in part.parameters(recurse=False)
        }
        groups = [
            {
                "params": [p for p in self.parameters() if id(p) not in norms],
                "weight_decay": self.settings.weight_decay,
            },
            {"params": [p for p in self.parameters() if id(p) in norms], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, self.settings.lr, MOMENTUM)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.settings.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _to_floats(images: list[Tensor]) -> list[Tensor]:
    """Convert bytes to floats in [0, 1]."""
    return [image.float() / 255 for image in images]


def _encode(mask: Tensor) -> RunLengths:
    """Encode a soft mask (1, H, W), thresholded at one half."""
    hard = (mask[0] > 0.5).to(torch.uint8).cpu().numpy()
    runs: RunLengths = coco_mask.encode(np.asfortranarray(hard))
    return runs
