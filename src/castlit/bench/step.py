"""The time and memory of a training step: plain MoCo, CAST as published, castlit as it trains, and lightly's MoCo."""

import statistics
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from castlit.bench.implementations import WARM_UP, Settings, installed_implementations, timed_training
from castlit.bench.loops import BareMoCo, Batch, PublishedCAST
from castlit.bench.memory import peak_memory
from castlit.bench.ratios import median_ratio, ratio_interval
from castlit.utils.progress import progress
from castlit.utils.validation import require_int

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second, from NVIDIA's data sheets (SXM)."""


def bench_step(
    backbone: str | None = None,
    size: int | None = None,
    batch_size: int | None = None,
    queue_size: int = 65536,
    precision: str | None = None,
    steps: int = 2,
    rounds: int = 8,
    threads: int | None = None,
) -> dict[str, Any]:
    """Time training steps on batches that are on the device already, the implementations in turn.

    Args:
        backbone: None: ResNet-50 on a GPU, otherwise ResNet-18.
        size: Side of the images in pixels; None: 224 on a GPU, otherwise 128.
        batch_size: None: 256 on a GPU, otherwise 32.
        queue_size: Keys in the queue.
        precision: ``"bf16"`` or ``"32"``; None: bf16 on a GPU, otherwise 32.
        steps: Steps of each implementation in each round.
        rounds: Number of rounds, of which medians are reported; use many short ones, as a busy machine is slow for
            seconds at a time.
        threads: Threads on the CPU; None: as many as torch chooses. With one, the processor's time is measured, which
            other programs on the machine do not change.

    Returns:
        Plain values; ``ratio_to_moco`` is the time of a step over that of plain MoCo without Lightning. Intervals are
        those of :func:`castlit.bench.ratios.ratio_interval`.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(require_int("threads", threads, 1))
    try:
        return _bench_step(backbone, size, batch_size, queue_size, precision, steps, rounds)
    finally:
        torch.set_num_threads(before)


def _bench_step(
    backbone: str | None,
    size: int | None,
    batch_size: int | None,
    queue_size: int,
    precision: str | None,
    steps: int,
    rounds: int,
) -> dict[str, Any]:
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
    names = installed_implementations()
    runs = {name: timed_training(name, settings) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
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
        "threads": torch.get_num_threads(),
        "images_per_s": {name: round(settings.batch_size / each, 1) for name, each in median.items()},
        "ratio_to_moco": {name: median_ratio(seconds[name], seconds["moco"], 3) for name in names},
        "ratio_to_moco_interval": {name: ratio_interval(seconds[name], seconds["moco"], 3) for name in names},
        **_ratios_to("published", ("cast", "cast_masked_features"), seconds),
        **_ratios_to("lightly_moco", ("lightning_moco", "cast", "cast_masked_features"), seconds),
        "peak_memory_mib": peak_memory(settings, names),
    }
    if gpu:
        row["model_flops_utilisation"] = _utilisation(settings, batches[0], median)
    return row


def _ratios_to(peer: str, names: tuple[str, ...], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Times over those of a peer, with their intervals; empty if it did not run."""
    if peer not in seconds:
        return {}
    return {
        f"ratio_to_{peer}": {name: median_ratio(seconds[name], seconds[peer], 3) for name in names},
        f"ratio_to_{peer}_interval": {name: ratio_interval(seconds[name], seconds[peer], 3) for name in names},
    }


def _utilisation(settings: Settings, batch: Batch, median: dict[str, float]) -> dict[str, float] | None:
    """Fraction of the GPU's peak that the operations of plain MoCo and of CAST reach; None for an unknown GPU."""
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in torch.cuda.get_device_name()), None)
    if peak is None:
        return None
    utilisation = {}
    for name, loop in (("moco", BareMoCo), ("published", PublishedCAST)):
        with FlopCounterMode(display=False) as counter:
            loop(settings.method(), settings.autocast).run([batch])
        utilisation[name] = counter.get_total_flops() / median[name] / peak
    # CAST has one more forward pass than MoCo, of the masked key; with masked features it has none.
    utilisation["cast"] = utilisation["moco"] * 1.25 * median["moco"] / median["cast"]
    utilisation["cast_masked_features"] = utilisation["moco"] * median["moco"] / median["cast_masked_features"]
    return {name: round(value, 3) for name, value in utilisation.items()}
