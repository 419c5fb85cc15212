"""The Grad-CAM panel: images of the CAMs from before training to now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from castlit.attention import has_object
from castlit.callbacks.validation_parts import part_for
from castlit.nn import lacks_statistics
from castlit.reporting.images import Picture, encode, grid, overlay_cam, overlay_mask, to_picture
from castlit.utils.atomic_write import write_atomic
from castlit.utils.lightning import TrainerFn, pl
from castlit.utils.validation import InputError, require_int

Row = tuple[str, list[NDArray[np.float32]]]
"""A label, and a CAM for each image."""


class GradCAMPanel(pl.Callback):
    """Writes ``gradcam.png`` (query, mask, CAM) after each validation, and logs it to TensorBoard and W&B.

    A validation before the first step (``trainer.validate``, or the sanity check) gives the row of CAMs before
    training. ``gradcam_epochs.png`` in the same folder also shows the CAMs after epochs in between.

    Args:
        path: File to write.
        count: Number of images: the first of the (first) validation loader that have a mask.
        pixels: Height of one image in pixels.
        frames: Rows of CAMs in ``gradcam_epochs.png``, evenly spaced over the validations so far.

    Raises:
        InputError: The file's suffix is no image format, or a number is out of range.
    """

    def __init__(self, path: str | Path = "gradcam.png", count: int = 8, pixels: int = 144, frames: int = 8) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in Image.registered_extensions():
            raise InputError(f"callbacks.panel.path={path}: name an image file, such as gradcam.png")
        self.count = require_int("callbacks.panel.count", count, low=1)
        self.pixels = require_int("callbacks.panel.pixels", pixels, low=16)
        self.frames = require_int("callbacks.panel.frames", frames, low=2)
        self._rows: list[Row] = []
        """Of all validations, or of every second, fourth, ... if there were many; always with the first."""
        self._every, self._seen = 1, 0
        self._shown: list[tuple[Picture, NDArray[np.uint8], NDArray[np.float32]]] = []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for a resumed run."""
        rows = [{"label": label, "cams": torch.from_numpy(np.stack(cams))} for label, cams in self._rows]
        return {"rows": rows, "every": self._every, "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._rows = [(row["label"], list(row["cams"].numpy())) for row in state_dict["rows"]]
        self._every, self._seen = state_dict["every"], state_dict["seen"]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clear the last validation."""
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
        if len(self._shown) >= self.count or not trainer.is_global_zero or dataloader_idx > 0:
            return
        images, masks = (part_for(self, name, batch) for name in ("image", "mask"))
        cams = part_for(self, "cam", outputs)
        for i in has_object(masks).nonzero()[: self.count - len(self._shown), 0].tolist():
            self._shown.append((to_picture(images[i]), masks[i, 0].cpu().numpy(), cams[i].float().cpu().numpy()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the panels."""
        if not self._shown:
            return
        now = (self._label(trainer, pl_module), [cam for _, _, cam in self._shown])
        if trainer.global_step == 0:
            self._rows, self._every, self._seen = [], 1, 0
        # The validation after the fit repeats the last epoch's: one row for both.
        before = [row for row in self._rows if row[0] != now[0]]
        # The images always end with the current row, also when it is not stored.
        if self._seen % self._every == 0:
            self._rows = [*before, now]
            if len(self._rows) > 2 * self.frames:
                self._rows, self._every = self._rows[::2], 2 * self._every
        self._seen += 1
        panel = self._draw([*before[:1], now])
        # Atomically: users and study reports read the files while the run continues.
        write_atomic(self.path, encode(panel, self.path.suffix))
        if len(before) > 1:
            chosen = np.linspace(0, len(before), min(self.frames, len(before) + 1)).round().astype(int)
            epochs = self._draw([[*before, now][i] for i in chosen])
            path = self.path.with_name(f"{self.path.stem}_epochs{self.path.suffix}")
            write_atomic(path, encode(epochs, path.suffix))
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.experiment.add_image("gradcam", panel, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("gradcam", [panel], step=trainer.global_step)

    @staticmethod
    def _label(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        fitting = trainer.state.fn == TrainerFn.FITTING
        if trainer.global_step == 0:
            # A trained network loaded for validation is not "before training".
            return "Grad-CAM\nbefore training" if fitting or lacks_statistics(pl_module) else "Grad-CAM"
        epoch = trainer.current_epoch + fitting
        return f"Grad-CAM\nafter {epoch} epoch{'s' * (epoch != 1)}"

    def _draw(self, cams: list[Row]) -> Picture:
        images = [self._enlarge(image) for image, _, _ in self._shown]
        masks = [self._enlarge(mask, cv2.INTER_NEAREST) for _, mask, _ in self._shown]
        rows: list[tuple[str, list[Picture]]] = [
            ("query", images),
            ("saliency\nmask", [overlay_mask(*pair) for pair in zip(images, masks, strict=True)]),
        ]
        rows += [(label, self._overlays(images, found)) for label, found in cams]
        caption = "validation images; each CAM is scaled by its own maximum, red is hottest, a grey image has no CAM"
        return grid(rows, "Where the encoder looks", caption)

    def _overlays(self, images: list[Picture], cams: list[NDArray[np.float32]]) -> list[Picture]:
        return [overlay_cam(image, cam) for image, cam in zip(images, cams, strict=True)]

    def _enlarge(self, picture: NDArray[np.uint8], interpolation: int = cv2.INTER_CUBIC) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        enlarged: Any = cv2.resize(picture, (self.pixels * width // height, self.pixels), interpolation=interpolation)
        return np.asarray(enlarged, np.uint8)
