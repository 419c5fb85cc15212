"""Fit a network to maps under Lightning; a killed process resumes from its last checkpoint."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from castlit.data.datamodules.sampler import EpochSampler
from castlit.resume.checkpoint_io import AtomicCheckpointIO, remove_partial
from castlit.resume.request import LAST
from castlit.resume.restoring import restoring
from castlit.resume.start import start
from castlit.saliency.deepusps.training import SaliencyTraining
from castlit.utils.gpu import find_gpu
from castlit.utils.lightning import pl
from castlit.utils.progress_log import ProgressLog
from castlit.utils.quiet import quiet_lightning

SAVE_EVERY_S = 30.0

Levels = NDArray[np.uint8]


class MapsDataset(Dataset[dict[str, Tensor]]):
    """Images with their maps, read from disk batch by batch.

    Args:
        images: (N, S, S, 3) RGB.
        targets: K times (N, S, S).
        usable: The numbers, below N, of the images to take.
    """

    def __init__(self, images: Levels, targets: Sequence[Levels], usable: NDArray[np.intp]) -> None:
        self.images, self.targets, self.usable = images, targets, usable

    def __len__(self) -> int:
        return len(self.usable)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """The batch for the (epoch, index) pairs of a sampler: image (n, 3, S, S) and targets (n, K, S, S), uint8."""
        rows = self.usable[[index for _, index in keys]]
        return {
            # Channels stay last in memory: no copy, and convolutions are faster.
            "image": torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2),
            "targets": torch.from_numpy(np.stack([target[rows] for target in self.targets], 1)),
        }


def fit(
    training: SaliencyTraining,
    data: MapsDataset,
    checkpoint: Path,
    title: str,
    *,
    epochs: int,
    max_steps: int | None,
    batch_size: int,
    accelerator: str,
    precision: str | None,
) -> None:
    """Train; from ``checkpoint`` if it is there, on a CPU to the same result as without an interruption.

    Args:
        training: What is trained.
        data: Images and targets.
        checkpoint: File that the state is saved to between two epochs, every half a minute.
        title: Title of the progress bar.
        epochs: Passes over the images.
        max_steps: Fewer epochs are trained where these would take more steps; None: no limit.
        batch_size: Images in a step. An incomplete last batch is left out, unless it is the only one.
        accelerator: Lightning's.
        precision: Lightning's; None: bfloat16 where the accelerator has it, otherwise float32.
    """
    sampler = EpochSampler(data, 1, 0, seed=training.seed)
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        data, batch_size, sampler=sampler, drop_last=len(data) > batch_size, collate_fn=_unchanged
    )
    if max_steps is not None:
        epochs = min(epochs, math.ceil(max_steps / len(loader)))
    remove_partial(checkpoint.parent)
    # The folder's state.json identifies the training.
    last = LAST if checkpoint.exists() else None
    resume_from = start(last, checkpoint, checkpoint.parent, key=None, kind="deepusps's training")
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision or _precision(accelerator),  # type: ignore[arg-type]
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=checkpoint.parent,
            plugins=[AtomicCheckpointIO()],
            callbacks=[_SaveState(checkpoint), _Progress(title, batch_size)],
        )
        with restoring(resume_from):
            trainer.fit(training, loader, ckpt_path=resume_from, weights_only=True)


class _SaveState(pl.Callback):
    """Saves between epochs, every :data:`SAVE_EVERY_S` seconds."""

    def __init__(self, path: Path) -> None:
        self.path, self._saved = path, time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved = time.monotonic()


class _Progress(pl.Callback):
    """Shows the training's progress."""

    def __init__(self, title: str, batch_size: int) -> None:
        self.title, self.batch_size = title, batch_size
        self.pace: ProgressLog | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = int(trainer.estimated_stepping_batches) - trainer.global_step
        self.pace = ProgressLog(self.title, steps * self.batch_size).__enter__()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        if self.pace is not None:
            for _ in batch["image"]:
                self.pace.advance()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.pace is not None:
            self.pace.__exit__(None, None, None)
            self.pace = None


def _unchanged(batch: Any) -> Any:  # noqa: ANN401
    return batch


def _precision(accelerator: str) -> str:
    gpu = find_gpu(accelerator)
    return "bf16-mixed" if gpu is not None and gpu.bfloat16 else "32-true"
