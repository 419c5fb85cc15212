"""Stop a run whose loss is not finite, and name the images of the batch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from castlit.utils.json_files import write_json
from castlit.utils.lightning import pl
from castlit.utils.step_outputs import step_outputs
from castlit.utils.validation import InputError


class _Step(NamedTuple):
    epoch: int
    step: int
    batch: int
    images: Tensor | None
    losses: dict[str, Tensor]


class FiniteLoss(pl.Callback):
    """Stops the run when the loss is NaN or infinite, and writes which images the batch had.

    It checks the loss before a gradient scaler multiplies it: gradients that overflow by the scale alone are the
    scaler's task.

    On a CPU it checks every step. On a GPU, where a check waits for the device, it checks ``log_every_n_steps`` steps
    at once. It also checks before every validation and before a checkpoint is written, so that no checkpoint with NaN
    weights replaces a good one.

    Args:
        path: File to write; processes other than the first add their rank to its name.
    """

    def __init__(self, path: str | Path = "bad_batch.json") -> None:
        self.path = Path(path)
        self._steps: list[_Step] = []
        self._step = 0

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Note the step, as the log counts."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Keep the losses and the images' indices, on their device."""
        losses = step_outputs(outputs, trainer)
        if "loss" not in losses:
            return
        images = batch.get("index") if isinstance(batch, Mapping) else None
        self._steps.append(_Step(trainer.current_epoch, self._step, batch_idx, images, losses))
        waits = trainer.strategy.root_device.type != "cpu" or trainer.world_size > 1
        if len(self._steps) >= (max(1, trainer.log_every_n_steps) if waits else 1):  # type: ignore[attr-defined]
            self._check(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before the metrics are computed."""
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check before it is written."""
        self._check(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last steps."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        """Raise on all processes if a kept step of one is bad; all processes call this at the same steps."""
        steps, self._steps = self._steps, []
        bad = None
        if steps:
            finite = torch.stack([step.losses["loss"] for step in steps]).isfinite().tolist()
            bad = next((step for step, good in zip(steps, finite, strict=True) if not good), None)
        if bad is not None:
            self._write(trainer, bad)
        anywhere = bad is not None
        if trainer.world_size > 1:
            anywhere = trainer.strategy.reduce_boolean_decision(anywhere, all=False)
        if bad is not None:
            raise InputError(
                f"the loss is {bad.losses['loss'].item()} at step {bad.step} (epoch {bad.epoch}, batch {bad.batch}): "
                f"{self._path(trainer)} names its images and the parts of the loss"
            )
        if anywhere:
            folder = self.path.absolute().parent
            raise InputError(f"the loss of another process is not finite: see {self.path.stem}*.json in {folder}")

    def _path(self, trainer: pl.Trainer) -> Path:
        rank = trainer.global_rank
        return self.path if rank == 0 else self.path.with_stem(f"{self.path.stem}_rank{rank}")

    def _write(self, trainer: pl.Trainer, bad: _Step) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        path = self._path(trainer)
        record = {
            "seed": getattr(data, "seed", None),
            "epoch": bad.epoch,
            "step": bad.step,
            "batch": bad.batch,
            # As strings: JSON has no NaN.
            "losses": {name: str(value.item()) for name, value in bad.losses.items()},
            "images": [] if bad.images is None else [image_name(data, index) for index in bad.images.tolist()],
        }
        write_json(path, record)


def image_name(data: object, index: int) -> dict[str, str | int]:
    """Describe a training image: its index, and its file, or its shard and its position in the shard.

    Args:
        data: A data module.
        index: The image's index in a batch's ``index``.
    """
    name: dict[str, str | int] = {"index": index}
    if hasattr(data, "train_shards"):
        urls, counts = data.train_shards
        ends = np.cumsum(counts)
        shard = int(np.searchsorted(ends, index, side="right"))
        return {**name, "shard": str(urls[shard]), "place": index - int(ends[shard] - counts[shard])}
    source: Any = getattr(data, "sources", (None,))[0]
    return {**name, "file": str(source.image_path(index))} if hasattr(source, "image_path") else name
