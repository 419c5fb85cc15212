"""The implementations of a training step that the benchmark compares."""

import logging
import time
import warnings
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from castlit.attention import AttentionLoss
from castlit.bench.loops import RECIPE, BareMoCo, Batch, PublishedCAST
from castlit.methods import MoCo
from castlit.module import CASTModule
from castlit.utils.validation import require_choice, require_int

WARM_UP = 1
"""Steps at the start of a run that are not timed."""

IMPLEMENTATIONS = ("moco", "published", "cast", "cast_masked_features", "lightning_moco")


class Settings:
    """The settings that all implementations share.

    Args:
        backbone: Name of the backbone.
        size: Side of the images in pixels.
        batch_size: Images in a batch.
        queue_size: Keys in the queue.
        precision: ``"32"``, or ``"bf16"`` for autocast.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, backbone: str, size: int, batch_size: int, queue_size: int, precision: str, device: str) -> None:
        self.backbone, self.device = backbone, device
        self.size = require_int("size", size, 16)
        self.batch_size = require_int("batch_size", batch_size, 2)
        self.queue_size = require_int("queue_size", queue_size, 1)
        self.precision = require_choice("precision", str(precision), ("32", "bf16"))  # YAML reads 32 as a number

    @property
    def autocast(self) -> bool:
        """Whether the step runs in bfloat16."""
        return self.precision == "bf16"

    def method(self) -> MoCo:
        """A new method on the device; all implementations start from the same weights."""
        torch.manual_seed(0)
        method = MoCo(self.backbone, queue_size=self.queue_size)
        return method.to(self.device).to(memory_format=torch.channels_last)

    def batches(self, count: int) -> list[Batch]:
        """Noise with a square object: the time of a step does not depend on the images."""
        torch.manual_seed(1)
        mask = torch.zeros(self.batch_size, 1, self.size, self.size, dtype=torch.uint8)
        mask[:, :, : self.size // 2, : self.size // 2] = 1
        shape = (self.batch_size, 3, self.size, self.size)
        made = []
        for _ in range(count):
            query, key = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2))
            batch = {"query": query, "key": key, "query_mask": mask, "key_mask": mask}
            made.append({name: x.to(self.device) for name, x in batch.items()})
        return made


def timed_training(name: str, settings: Settings) -> Callable[[list[Batch]], float]:
    """Return a function that trains on batches and returns the seconds of all but the first :data:`WARM_UP`."""
    if name in ("moco", "published"):
        loop = (BareMoCo if name == "moco" else PublishedCAST)(settings.method(), settings.autocast)

        def run(batches: list[Batch]) -> float:
            loop.run(batches[:WARM_UP])
            start = now(settings.device)
            loop.run(batches[WARM_UP:])
            return now(settings.device) - start

        return run
    key = "masked_features" if name == "cast_masked_features" else "masked_image"
    attention = None if name == "lightning_moco" else AttentionLoss(key=key)
    module = CASTModule(settings.method(), attention, RECIPE)
    return lambda batches: _fit(module, settings, batches)


class _Clock(pl.Callback):
    """Seconds from the end of the warm-up to the end of the epoch, without the start and end of the run."""

    def __init__(self, device: str) -> None:
        self.device, self.start, self.seconds = device, 0.0, 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, i: int) -> None:
        if i == WARM_UP:
            self.start = now(self.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds = now(self.device) - self.start


def _fit(module: CASTModule, settings: Settings, batches: list[Batch]) -> float:
    clock = _Clock(settings.device)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="gpu" if settings.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if settings.autocast else "32-true",
            max_epochs=1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=50,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return clock.seconds


def now(device: str) -> float:
    """The time in seconds, after the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
