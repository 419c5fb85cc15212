"""The part ``step``: training steps of MoCo, CAST and the published structure, and how idle the GPU is meanwhile."""

from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from castlit.bench.gpu.settings import GPUSettings
from castlit.bench.implementations import WARM_UP, Settings, now, timed_training
from castlit.bench.step import bench_step

PROFILED = ("moco", "cast", "cast_masked_features")
STEPS = 6


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """The row of ``castlit.bench step`` at these sizes; on a GPU, also the fraction of time ``idle``."""
    rounds = 3 if settings.device == "cuda" else 1
    row = bench_step(
        backbone=settings.backbone,
        size=settings.size,
        batch_size=settings.batch_size,
        queue_size=settings.queue_size,
        precision=settings.precision,
        steps=4 if settings.device == "cuda" else 1,
        rounds=rounds,
    )
    if settings.device == "cuda":
        row["idle"] = {name: _idle(name, settings) for name in PROFILED}
    return row


def _idle(name: str, settings: GPUSettings) -> float:
    sizes = Settings(
        settings.backbone,
        settings.size,
        settings.batch_size,
        settings.queue_size,
        settings.precision,
        settings.device,
    )
    batches, train = sizes.batches(2), timed_training(name, sizes)
    train([batches[i % 2] for i in range(WARM_UP + 2)])
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        start = now(settings.device)
        train([batches[i % 2] for i in range(WARM_UP + STEPS)])
        wall_us = (now(settings.device) - start) * 1e6
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA
    ]
    return round(1 - covered(spans) / wall_us, 3)


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams overlap."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total
