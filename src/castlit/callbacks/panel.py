"""The Grad-CAM panel: a picture of where the network looks, from before training to now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from castlit.attention import has_object
from castlit.evaluation.pictures import Picture, grid, overlay_cam, overlay_mask, to_picture
from castlit.nn import lacks_statistics
from castlit.nn.checks import require_int


class GradCAMPanel(pl.Callback):
    """Writes ``gradcam.png`` (query, mask, CAM) after each validation, and hands it to TensorBoard and W&B.

    A validation before the first step (``trainer.validate``, or the sanity check) gives the row that the later ones are
    compared with.

    Args:
        path: File to write.
        count: Number of images shown, the first of the validation set that have a mask.
        pixels: Height of one image in the picture.
    """

    def __init__(self, path: str | Path = "gradcam.png", count: int = 8, pixels: int = 144) -> None:
        self.path = Path(path)
        self.count = require_int("callbacks.panel.count", count, low=1)
        self.pixels = require_int("callbacks.panel.pixels", pixels, low=16)
        self._first: tuple[str, list[NDArray[np.float32]]] | None = None
        self._shown: list[tuple[Picture, NDArray[np.uint8], NDArray[np.float32]]] = []

    def state_dict(self) -> dict[str, Any]:
        """The row that later ones are compared with, for a resumed run."""
        if self._first is None:
            return {}
        label, cams = self._first
        return {"label": label, "cams": torch.from_numpy(np.stack(cams))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self._first = (state_dict["label"], list(state_dict["cams"].numpy()))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last validation."""
        self._shown.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images that have a mask."""
        if len(self._shown) >= self.count or not trainer.is_global_zero:
            return
        for i in has_object(batch["mask"]).nonzero()[: self.count - len(self._shown), 0].tolist():
            mask = batch["mask"][i, 0].cpu().numpy()
            self._shown.append((to_picture(batch["image"][i]), mask, outputs["cam"][i].float().cpu().numpy()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the panel."""
        if not self._shown:
            return
        cams = [cam for _, _, cam in self._shown]
        if trainer.global_step == 0:
            # A network that was loaded to be looked at is not "before training".
            fitting = trainer.state.fn == TrainerFn.FITTING
            self._first = ("Grad-CAM\nbefore training" if fitting or lacks_statistics(pl_module) else "Grad-CAM", cams)
        panel = self._draw(cams, trainer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(panel).save(self.path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("gradcam", panel, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("gradcam", [panel], step=trainer.global_step)

    def _draw(self, cams: list[NDArray[np.float32]], trainer: pl.Trainer) -> Picture:
        images = [self._enlarge(image) for image, _, _ in self._shown]
        masks = [self._enlarge(mask, cv2.INTER_NEAREST) for _, mask, _ in self._shown]
        rows: list[tuple[str, list[Picture]]] = [
            ("query", images),
            ("saliency\nmask", [overlay_mask(*pair) for pair in zip(images, masks, strict=True)]),
        ]
        if self._first is not None:
            rows.append((self._first[0], self._overlays(images, self._first[1])))
        if trainer.global_step > 0:
            epoch = trainer.current_epoch + (trainer.state.fn == TrainerFn.FITTING)
            rows.append((f"Grad-CAM\nafter {epoch} epoch{'s' * (epoch != 1)}", self._overlays(images, cams)))
        caption = "validation images; each CAM is scaled by its own maximum, red is hottest, a grey image has no CAM"
        return grid(rows, "Where the encoder looks", caption)

    def _overlays(self, images: list[Picture], cams: list[NDArray[np.float32]]) -> list[Picture]:
        return [overlay_cam(image, cam) for image, cam in zip(images, cams, strict=True)]

    def _enlarge(self, picture: NDArray[np.uint8], interpolation: int = cv2.INTER_CUBIC) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        enlarged: Any = cv2.resize(picture, (self.pixels * width // height, self.pixels), interpolation=interpolation)
        return np.asarray(enlarged, np.uint8)
