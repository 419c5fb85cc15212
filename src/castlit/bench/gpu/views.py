"""The part ``views``: colour augmentation and normalisation of batches on the device."""

from pathlib import Path
from typing import Any

import torch

from castlit.bench.data import make_photographs
from castlit.bench.gpu.settings import GPUSettings
from castlit.bench.implementations import now
from castlit.data import SaliencyDataModule
from castlit.data.datamodules.base import finish

ROUNDS = 10


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """Finish a batch of two views again and again on the device; return images (pairs of views) per second."""
    images, masks = make_photographs(_new(folder / "photographs"), settings.batch_size)
    data = SaliencyDataModule(
        images,
        masks,
        size=settings.size,
        batch_size=settings.batch_size,
        workers=0,
        photometric="device",
        on_bad="drop",
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    on_device = {name: x.to(settings.device) for name, x in batch.items() if isinstance(x, torch.Tensor)}
    seconds = []
    for _ in range(ROUNDS + 1):
        start = now(settings.device)
        finish(on_device, data.views.colours)
        seconds.append(now(settings.device) - start)
    count = len(on_device["query"])
    return {"images": count, "images_per_s": round(count * ROUNDS / sum(seconds[1:]), 1)}


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
