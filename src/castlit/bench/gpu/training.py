"""The part ``training``: the mission's program on files, and how long its steps wait for the loader."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from castlit.bench.gpu.photographs import make_coco
from castlit.bench.gpu.settings import GPUSettings


class LoaderWait(pl.Callback):
    """Measures the time between the end of a step on the host and the next batch, and writes it as JSON.

    The device works on while the host waits, so this is an upper bound of what the loader costs. The first tenth of
    the steps is left out: workers start, and kernels are chosen.

    Args:
        path: The file.
        steps: Number of steps of the run.
    """

    def __init__(self, path: str, steps: int) -> None:
        self.path, self.first = path, max(1, steps // 10)
        self.waited = self.start = 0.0
        self.counted = 0
        self._ended: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Count the wait."""
        present = time.perf_counter()
        if trainer.global_step == self.first:
            self.start = present
        elif trainer.global_step > self.first and self._ended is not None:
            self.waited += present - self._ended
            self.counted += 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note the time."""
        self._ended = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the result."""
        if self.counted:
            seconds = time.perf_counter() - self.start
            row = {"steps": self.counted, "seconds": seconds, "waited_s": self.waited}
            Path(self.path).write_text(json.dumps(row))


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """Train ``+experiment=cast_mocov2 data=coco`` for some steps; return images/s and the fraction spent waiting."""
    colours = "device" if settings.device == "cuda" else "cpu"
    root, masks = make_coco(folder, settings.photographs)
    run, found = folder / "run", folder / "wait.json"
    command = [
        sys.executable, "-m", "castlit.train", "+experiment=cast_mocov2", "data=coco", f"data.root={root}",
        f"data.masks={masks}", f"data.size={settings.size}", f"data.batch_size={settings.batch_size}",
        "data.on_bad=unconstrained", "data.val_count=16", f"data.photometric={colours}",
        f"backbone={settings.backbone}", f"method.queue_size={settings.queue_size}",
        f"trainer.precision={settings.lightning_precision}", f"trainer.max_steps={settings.steps}",
        "trainer.max_epochs=-1", "trainer.limit_val_batches=0", f"hydra.run.dir={run}",
        "+callbacks.wait._target_=castlit.bench.gpu.training.LoaderWait", f"+callbacks.wait.path={found}",
        f"+callbacks.wait.steps={settings.steps}",
    ]  # fmt: skip
    start = time.monotonic()
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "COLUMNS": "100"})
    row = json.loads(found.read_text())
    return {
        "images_per_s": round(row["steps"] * settings.batch_size / row["seconds"], 1),
        "loader_wait": round(row["waited_s"] / row["seconds"], 3),
        "steps": row["steps"],
        "whole_program_s": round(time.monotonic() - start, 1),
    }
