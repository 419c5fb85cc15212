"""Masks per second of castlit.make_masks on one core, and the core-hours for COCO.

    python benchmarks/make_masks_speed.py [--images FOLDER] [--count 32] [--rounds 3] [--output row.json]

Measured like one of the program's processes, with one thread, including reading and writing. Without a folder: 640 x
480 JPEGs of the built-in scenes with noise. The qualities run in turn, for several rounds. Rates are given by CPU time,
which other work on the machine disturbs less, and by wall-clock time.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from castlit.bench.data import make_photographs
from castlit.bench.machine import machine
from castlit.data.io.folders import IMAGE_SUFFIXES
from castlit.saliency.algorithms.registry import METHODS, SIDE
from castlit.saliency.pipeline.folder import MASK_SIDE
from castlit.saliency.pipeline.one_mask import Recipe, encode, make_mask, open_image, resize, to_levels
from castlit.saliency.pipeline.quality import measure_quality
from castlit.utils.json_files import write_json

COCO_TRAIN = 118_287


def timed(work, items):
    """CPU and wall-clock seconds per item."""
    cpu, clock = time.process_time(), time.perf_counter()
    for item in items:
        work(item)
    return (time.process_time() - cpu) / len(items), (time.perf_counter() - clock) / len(items)


def stages(path, method):
    """CPU milliseconds of each stage for an image."""
    marks = [time.process_time()]
    opened = open_image(path, SIDE, MASK_SIDE)
    marks.append(time.process_time())
    values = METHODS[method](opened.image)
    marks.append(time.process_time())
    small = to_levels(values)
    levels = resize(small, opened.size)
    measure_quality(opened.image, small)
    encode(levels)
    marks.append(time.process_time())
    return np.diff(marks) * 1000


def measure(images, names, rounds, scratch):
    """Rates and stages of each quality."""
    seconds = {quality: [] for quality in ("fast", "fused")}
    for number in range(rounds + 1):
        for quality in ("fast", "fused"):
            recipe = Recipe(images, scratch / quality, "benchmark", SIDE, MASK_SIDE)
            taken = timed(functools.partial(make_mask, recipe, quality), names[:1] if number == 0 else names)
            if number > 0:  # the first is a warm-up
                seconds[quality].append(taken)
    rows = {}
    for quality, taken in seconds.items():
        cpu, clock = (statistics.median(each) for each in zip(*taken, strict=True))
        parts = np.mean([stages(images / name, quality) for name in names], 0)
        rows[quality] = {
            "images_per_s_and_core": round(1 / cpu, 2),
            "by_the_clock": round(1 / clock, 2),
            "coco_train_core_hours": round(COCO_TRAIN * cpu / 3600, 2),
            "ms": dict(zip(("read", "map", "write"), parts.round(1).tolist(), strict=True)),
        }
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        images = given.images or Path(make_photographs(scratch, given.count)[0])
        found = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        chosen = np.linspace(0, len(found) - 1, min(given.count, len(found))).round().astype(int)
        names = [found[i].relative_to(images).as_posix() for i in chosen]
        pixels = [np.prod(cv2.imread(str(images / name)).shape[:2]) for name in names]
        row = {
            "benchmark": "make_masks",
            "images": len(names),
            "made_of": "scenes, 640 x 480" if given.images is None else "photographs",
            "mean_megapixels": round(float(np.mean(pixels)) / 1e6, 3),
            "side": SIDE,
            "rounds": given.rounds,
            "qualities": measure(images, names, given.rounds, scratch),
            "machine": machine(),
        }
    print(json.dumps(row))
    if given.output:
        write_json(given.output, row)


if __name__ == "__main__":
    main()
