"""The part ``interrupted``: a run that is killed and resumed ends as one that is not, on this device."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from castlit.bench.gpu.settings import GPUSettings

STEPS, KILLED_AFTER = 24, 10


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """Train a small run on the scenes to its end, and once more with a SIGKILL; return how far the weights differ."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it, cuBLAS may add in another order
    subprocess.run(_command(settings, folder / "straight"), check=True, cwd=folder)
    killed_at = _kill(_command(settings, folder / "killed"), folder)
    subprocess.run([*_command(settings, folder / "killed"), "resume=last"], check=True, cwd=folder)
    straight, resumed = (_weights(folder / name) for name in ("straight", "killed"))
    difference = max(float((straight[name] - resumed[name]).abs().max()) for name in straight)
    return {"killed_at_step": killed_at, "steps": STEPS, "largest_difference": difference, "equal": difference == 0}


def _command(settings: GPUSettings, run: Path) -> list[str]:
    return [
        sys.executable, "-m", "castlit.train", "+experiment=cast_mocov2", "data.train_count=1024", "data.val_count=32",
        "data.size=64", "data.batch_size=32", "data.workers=0", "method.queue_size=256", "trainer.deterministic=warn",
        f"trainer.precision={settings.lightning_precision}", f"trainer.max_steps={STEPS}", "trainer.max_epochs=-1",
        "trainer.limit_val_batches=0", "callbacks.checkpoint.every_n_train_steps=2", f"hydra.run.dir={run}",
    ]  # fmt: skip


def _kill(command: list[str], folder: Path) -> int:
    """Start the run, kill it once it has saved a step that is late enough, and return that step.

    Raises:
        RuntimeError: It ended before.
    """
    last = folder / "killed" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(command, cwd=folder)
    while process.poll() is None:
        step = _step(last)
        if KILLED_AFTER <= step < STEPS:
            process.kill()
            process.wait()
            return _step(last)
        time.sleep(0.02)
    raise RuntimeError("the run ended before it could be killed")


def _step(last: Path) -> int:
    if not last.is_file():
        return -1
    return int(torch.load(last, map_location="cpu", weights_only=True)["global_step"])


def _weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    return {name: value for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}
