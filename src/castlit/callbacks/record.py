"""The run's record: metrics and times, written to ``summary.json`` at the end of the run."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from castlit.callbacks.pruning import Pruning
from castlit.callbacks.run_log import count_images
from castlit.utils.json_files import write_json
from castlit.utils.lightning import pl
from castlit.utils.step_outputs import step_outputs

_FIRST_STEPS = 10

_OF_OBJECTS = ("train/attention", "train/pointing")
"""Metrics of the images with an object; ``train/empty_masks`` is the fraction of the others."""


@dataclass
class Change:
    """A metric at the start and at the end of a run."""

    start: float
    end: float


class RunRecord(pl.Callback):
    """Records each metric's first and last value and the run's times; writes them as JSON at the end of the fit.

    The times count from the first validation or the start of the fit, whichever comes first, and include all
    validations. A validation after the fit updates the file. A resumed run continues the counts of the interrupted
    one; the time in between does not count.

    A training metric's start is its mean over the first 10 steps, its end the mean over the last epoch. A validation
    metric's start is its first value (before training, if the trainer has validated then), its end its last.

    Args:
        path: File to write.

    Attributes:
        metrics: Start and end by metric.
        validated_at: The step of the last validation.
        weights: What the backbone started from, if not from scratch.
    """

    def __init__(self, path: str | Path = "summary.json") -> None:
        self.path = Path(path)
        self._begin()

    def _begin(self) -> None:
        self.metrics: dict[str, Change] = {}
        self._first: list[dict[str, Tensor]] = []
        self._epoch: dict[str, Tensor] = {}
        self._epoch_steps = 0
        self._seen_images = 0
        self._started = self._validation_started = 0.0
        self._validation_seconds = 0.0
        self._fitted = self._resumed = False
        self._relaxed_before: dict[str, int] = {}
        self._count_relaxed: Callable[[], dict[str, int]] | None = None
        self.validated_at: int | None = None
        self.weights: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the data's counter of relaxed crops, if it has one; forget an earlier fit that has ended."""
        if stage == "fit" and self._fitted:
            self._begin()
        self._count_relaxed = getattr(trainer.datamodule, "relaxed_crops", None)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """The state for a resumed run."""
        return {
            "metrics": {name: asdict(change) for name, change in self.metrics.items()},
            "first": self._first,
            "epoch": self._epoch,
            "epoch_steps": self._epoch_steps,
            "seen_images": self._seen_images,
            "seconds": time.perf_counter() - self._started,
            "validation_seconds": self._validation_seconds,
            "validated_at": self.validated_at,
            "relaxed": self._relaxed(),
            "weights": self.weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.metrics = {name: Change(**change) for name, change in state_dict["metrics"].items()}
        self._first, self._epoch = list(state_dict["first"]), dict(state_dict["epoch"])
        self._epoch_steps, self._seen_images = state_dict["epoch_steps"], state_dict["seen_images"]
        self._started = time.perf_counter() - state_dict["seconds"]
        self._validation_seconds = state_dict["validation_seconds"]
        self.validated_at = state_dict["validated_at"]
        self._relaxed_before = state_dict["relaxed"] or {}
        self.weights = state_dict.get("weights")  # not in checkpoints of castlit 0.2
        self._resumed = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, unless a validation before the fit has."""
        self._started = self._started or time.perf_counter()
        if not self._resumed:
            self._seen_images = 0
            self._first.clear()
        self._resumed = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the epoch's means."""
        self._epoch, self._epoch_steps = {}, 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Add up the metrics on the device, without making the host wait; a step without any does not count."""
        self._seen_images += count_images(batch) * trainer.world_size
        values = {f"train/{name}": value for name, value in step_outputs(outputs, trainer).items()}
        if not values:
            return
        # Means over the images with an object: a step counts as much as it has of them.
        objects = 1 - values["train/empty_masks"] if "train/empty_masks" in values else None
        if objects is not None:
            values |= {name: values[name] * objects for name in _OF_OBJECTS if name in values}
        if len(self._first) < _FIRST_STEPS:
            self._first.append(values)
        for name, value in values.items():
            # After resuming on a GPU, the sum is on the device of the checkpoint.
            self._epoch[name] = self._epoch[name].to(value.device) + value if name in self._epoch else value
        self._epoch_steps += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the validation's clock."""
        self._validation_started = time.perf_counter()
        self._started = self._started or self._validation_started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop it, and record the metrics."""
        if trainer.sanity_checking:
            return
        self.validated_at = trainer.global_step
        self._validation_seconds += time.perf_counter() - self._validation_started
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/"):
                start = self.metrics[name].start if name in self.metrics else value.item()
                self.metrics[name] = Change(start, value.item())
        if self._fitted:
            self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the summary."""
        last = {name: total.item() for name, total in self._epoch.items()}
        begun = [values for values in self._first if values.keys() == last.keys()]
        first = {name: sum(values[name].item() for values in begun) for name in last}
        for name in last:
            self.metrics[name] = Change(_mean(name, first, len(begun)), _mean(name, last, self._epoch_steps))
        self._fitted = True
        self._write(trainer, pl_module)

    def _relaxed(self) -> dict[str, int] | None:
        if self._count_relaxed is None:
            return None
        return {name: count + self._relaxed_before.get(name, 0) for name, count in self._count_relaxed().items()}

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            # Atomic: a run with this file has finished.
            write_json(self.path, self._summary(trainer, pl_module))

    def _summary(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        checkpoint = trainer.checkpoint_callback
        return {
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "images": self._seen_images,
            "seconds": round(seconds, 2),
            "weights": self.weights,
            # Crops outside scale or ratio: their image has no valid box within.
            "relaxed_crops": self._relaxed(),
            # How castlit made the masks, if it did.
            "masks": getattr(trainer.datamodule, "masks_made", None),  # type: ignore[attr-defined]
            "images_per_second": round(self._seen_images / seconds, 1),
            "validation_seconds": round(self._validation_seconds, 2),
            "validation_share": round(self._validation_seconds / seconds, 4),
            "metrics": {name: asdict(change) for name, change in sorted(self.metrics.items())},
            # Why a sweep ended it early; see castlit.callbacks.Pruning.
            "pruned": next((each.pruned for each in trainer.callbacks if isinstance(each, Pruning)), None),  # type: ignore[attr-defined]
            "checkpoint": getattr(checkpoint, "last_model_path", "") or None,
            "precision": str(trainer.precision),
            "world_size": trainer.world_size,
            "device": device_name(pl_module.device),
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("castlit", "torch", "torchvision", "pytorch-lightning")},
            },
        }


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.processor() or platform.machine()} CPU, {threads} thread{'s' * (threads != 1)}"


def _mean(name: str, sums: Mapping[str, float], steps: int) -> float:
    """A metric's mean over steps; those of the images with an object are weighted by these."""
    weight = steps - sums.get("train/empty_masks", 0.0) if name in _OF_OBJECTS else steps
    return sums[name] / weight if weight else 0.0
