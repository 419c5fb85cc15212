"""What a training step costs: plain MoCo, CAST as published, and CASTModule under Lightning, side by side."""

import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from castlit.attention import AttentionLoss
from castlit.bench.loops import RECIPE, BareMoCo, Batch, PublishedCAST
from castlit.bench.memory import peak_memory
from castlit.bench.ratios import median_ratio
from castlit.data.progress import progress
from castlit.methods import MoCo
from castlit.module import CASTModule
from castlit.nn.checks import require_choice, require_int

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second by the makers' data sheets (SXM)."""

WARM_UP = 1

CONTESTANTS = ("moco", "published", "cast", "cast_masked_features", "lightning_moco")


class Settings:
    """What all contestants train.

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
        self.precision = require_choice("precision", precision, ("32", "bf16"))

    @property
    def autocast(self) -> bool:
        """Whether the step runs in bfloat16."""
        return self.precision == "bf16"

    def method(self) -> MoCo:
        """A fresh method on the device; all contestants start from the same weights."""
        torch.manual_seed(0)
        method = MoCo(self.backbone, queue_size=self.queue_size)
        return method.to(self.device).to(memory_format=torch.channels_last)

    def batches(self, count: int) -> list[Batch]:
        """Noise with a square object: a step costs the same whatever it shows."""
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


def bench_step(
    backbone: str | None = None,
    size: int | None = None,
    batch_size: int | None = None,
    queue_size: int = 65536,
    precision: str | None = None,
    steps: int = 2,
    rounds: int = 8,
) -> dict[str, Any]:
    """Time training steps on batches that lie on the device already, the contestants in turn.

    Args:
        backbone: None: ResNet-50 on a GPU, otherwise ResNet-18; and so for the others.
        size: Side of the images in pixels; 224 or 128.
        batch_size: 256 or 32.
        queue_size: Keys in the queue.
        precision: ``"bf16"`` or ``"32"``.
        steps: Steps of each contestant in each round.
        rounds: The medians over the rounds count; many short rounds, as a busy machine is slow for seconds at a time.

    Returns:
        Plain values; ``ratio_to_moco`` is the time of a step over that of the bare loop of plain MoCo.
    """
    gpu = torch.cuda.is_available()
    settings = Settings(
        backbone or ("resnet50" if gpu else "resnet18"),
        (224 if gpu else 128) if size is None else size,
        (256 if gpu else 32) if batch_size is None else batch_size,
        queue_size,
        precision or ("bf16" if gpu else "32"),
        "cuda" if gpu else "cpu",
    )
    require_int("steps", steps, 1)
    require_int("rounds", rounds, 1)
    batches = settings.batches(4)
    runs = {name: contestant(name, settings) for name in CONTESTANTS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with progress("Steps") as bar:
        task = bar.add_task("", total=rounds + 1, rate="rounds")
        for round_number in range(rounds + 1):
            for name, run in runs.items():
                taken = run([batches[i % len(batches)] for i in range(WARM_UP + steps)])
                if round_number > 0:
                    seconds[name].append(taken / steps)
            bar.advance(task)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    row = {
        "backbone": settings.backbone,
        "size": settings.size,
        "batch_size": settings.batch_size,
        "queue_size": settings.queue_size,
        "precision": settings.precision,
        "device": settings.device,
        "steps": steps,
        "rounds": rounds,
        "images_per_s": {name: round(settings.batch_size / each, 1) for name, each in median.items()},
        "ratio_to_moco": {name: median_ratio(seconds[name], seconds["moco"], 3) for name in CONTESTANTS},
        "ratio_to_published": {name: median_ratio(seconds[name], seconds["published"], 3) for name in CONTESTANTS[2:4]},
        "peak_memory_mib": peak_memory(settings, CONTESTANTS),
    }
    if gpu:
        row["model_flops_utilisation"] = _utilisation(settings, batches[0], median)
    return row


def contestant(name: str, settings: Settings) -> Callable[[list[Batch]], float]:
    """What trains on batches and returns the seconds of all but the first :data:`WARM_UP`."""
    if name in ("moco", "published"):
        loop = (BareMoCo if name == "moco" else PublishedCAST)(settings.method(), settings.autocast)

        def run(batches: list[Batch]) -> float:
            loop.run(batches[:WARM_UP])
            start = _now(settings.device)
            loop.run(batches[WARM_UP:])
            return _now(settings.device) - start

        return run
    key = "masked_features" if name == "cast_masked_features" else "masked_image"
    attention = None if name == "lightning_moco" else AttentionLoss(key=key)
    module = CASTModule(settings.method(), attention, RECIPE)
    return lambda batches: _fit(module, settings, batches)


class _Clock(pl.Callback):
    """Seconds from the end of the warm-up to that of the epoch: what starts and ends a run is no cost of a step."""

    def __init__(self, device: str) -> None:
        self.device, self.start, self.seconds = device, 0.0, 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, i: int) -> None:
        if i == WARM_UP:
            self.start = _now(self.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds = _now(self.device) - self.start


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


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _utilisation(settings: Settings, batch: Batch, median: dict[str, float]) -> dict[str, float] | None:
    """Share of the GPU's peak that the operations of plain MoCo and of CAST amount to; None for an unknown GPU."""
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in torch.cuda.get_device_name()), None)
    if peak is None:
        return None
    shares = {}
    for name, loop in (("moco", BareMoCo), ("published", PublishedCAST)):
        with FlopCounterMode(display=False) as counter:
            loop(settings.method(), settings.autocast).run([batch])
        shares[name] = counter.get_total_flops() / median[name] / peak
    # One forward pass of the masked key more than MoCo; and nothing more with masked features.
    shares["cast"] = shares["moco"] * 1.25 * median["moco"] / median["cast"]
    shares["cast_masked_features"] = shares["moco"] * median["moco"] / median["cast_masked_features"]
    return {name: round(share, 3) for name, share in shares.items()}
