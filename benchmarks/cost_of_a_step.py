"""How a step's time and memory depend on batch size, image size, queue size and backbone.

    python benchmarks/cost_of_a_step.py output=benchmarks/results/cost_of_a_step.json

From one central setting, one value is changed at a time. For each, a bare MoCo step and CAST's step under Lightning run
in turn in one process; memory is measured in separate processes. A straight line is fitted to each series of times: its
slope is the cost of one more image, of a thousand pixels, or of a thousand keys.
"""

import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

from castlit.bench.implementations import WARM_UP, Settings, timed_training
from castlit.bench.machine import machine
from castlit.bench.memory import peak_memory
from castlit.bench.ratios import median_ratio
from castlit.utils.json_files import write_json

CENTRE = {"backbone": "resnet18", "size": 128, "batch_size": 16, "queue_size": 65536}
AXES = {
    "batch_size": [8, 16, 32, 48],
    "size": [64, 96, 128, 192],
    "queue_size": [4096, 65536, 131072, 262144],
    "backbone": ["resnet18", "resnet50", "convnext_tiny", "timm/vit_small_patch16_224"],
}
# The x values of the straight line: images, thousands of pixels of an image, thousands of keys.
SCALES = {"batch_size": lambda n: n, "size": lambda side: side**2 / 1000, "queue_size": lambda keys: keys / 1000}
NAMES = ("moco", "cast", "cast_masked_features")
STEPS, ROUNDS = 2, 3


def measure(settings: Settings) -> dict[str, object]:
    """Seconds of a step and peak memory of each contestant."""
    batches = settings.batches(2)
    runs = {name: timed_training(name, settings) for name in NAMES}
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for round_number in range(ROUNDS + 1):
        for name, run in runs.items():
            taken = run([batches[i % 2] for i in range(WARM_UP + STEPS)])
            if round_number > 0:
                seconds[name].append(taken / STEPS)
    return {
        "ms": {name: round(1000 * statistics.median(taken), 1) for name, taken in seconds.items()},
        "cast_to_moco": median_ratio(seconds["cast"], seconds["moco"], 3),
        "masked_features_to_moco": median_ratio(seconds["cast_masked_features"], seconds["moco"], 3),
        "peak_memory_mib": peak_memory(settings, NAMES),
    }


def fitted(axis: str, rows: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Slope in ms per unit, constant part in ms, and R² of the straight line."""
    x = np.array([SCALES[axis](row[axis]) for row in rows], dtype=float)
    lines = {}
    for name in NAMES:
        y = np.array([row["ms"][name] for row in rows])
        slope, constant = np.polyfit(x, y, 1)
        rest = y - (slope * x + constant)
        straight = 1.0 - float(rest @ rest) / max(float((y - y.mean()) @ (y - y.mean())), 1e-12)
        lines[name] = {"slope": round(float(slope), 4), "constant": round(float(constant), 1), "r2": round(straight, 3)}
    return lines


def main() -> None:
    """Measure all axes, or the given ones: ``python benchmarks/cost_of_a_step.py queue_size output=row.json``."""
    words = sys.argv[1:]
    output = next((word.removeprefix("output=") for word in words if word.startswith("output=")), None)
    axes = [word for word in words if "=" not in word] or list(AXES)
    device, precision = ("cuda", "bf16") if torch.cuda.is_available() else ("cpu", "32")
    found = {"benchmark": "cost_of_a_step", "centre": CENTRE, "precision": precision, "axes": {}, "machine": machine()}
    for axis in axes:
        rows = []
        for value in AXES[axis]:
            changed = {**CENTRE, axis: value}
            if "vit" in str(changed["backbone"]):
                changed["size"] = 224  # the size of its position embeddings
            rows.append({axis: value, **measure(Settings(**changed, precision=precision, device=device))})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        found["axes"][axis] = {"rows": rows, **({"fit": fitted(axis, rows)} if axis in SCALES else {})}
    print(json.dumps(found))
    if output is not None:
        write_json(Path(output), found)


if __name__ == "__main__":
    main()
