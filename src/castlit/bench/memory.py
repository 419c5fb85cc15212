"""Peak memory of an implementation, measured in a new process."""

import multiprocessing
from pathlib import Path

import torch

from castlit.bench.implementations import WARM_UP, Settings, timed_training


def peak_memory(settings: Settings, names: tuple[str, ...]) -> dict[str, int]:
    """Peak memory of each implementation over a few steps, in MiB: of the GPU, or on a CPU of the process."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for name in names:
        with context.Pool(1) as pool:
            peaks[name] = pool.apply(_peak, (settings, name))
    return peaks


def _peak(settings: Settings, name: str) -> int:
    batches = settings.batches(2)
    train = timed_training(name, settings)
    # Reset the peak: libraries and batches are not part of the comparison.
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    train([batches[i % 2] for i in range(WARM_UP + 3)])
    if settings.device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))
