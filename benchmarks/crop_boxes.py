"""How long two crop boxes of a mask take: on real masks, and on noise of 12 megapixels where few boxes or none fit.

    python benchmarks/crop_boxes.py MASKS … [--output output.json]

MASKS are folders of 8-bit PNG masks, searched recursively. Times are processor time of one thread; for real masks, the
least of ``ROUNDS`` rounds.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np

from castlit.bench.machine import machine
from castlit.crops import BoxSampler
from castlit.utils.json_files import write_json

COVERAGES = (0.2, 0.5, 0.9)
ROUNDS = 3
HEIGHT, WIDTH = 3000, 4000
DENSITY = 0.25


class CountingGenerator(np.random.Generator):
    """Counts the draws for many boxes at once, which the quick path does not make."""

    batches = 0

    def random(self, size=None):
        """Draw as usual."""
        self.batches += size != 4
        return super().random(size)


def draw(sampler, mask):
    """Seconds for two boxes, and whether the quick path gave both."""
    rng = CountingGenerator(np.random.PCG64(0))
    start = time.process_time()
    sampler(mask, 2, rng)
    return time.process_time() - start, not rng.batches


def real_masks(folders):
    files = sorted({file for folder in folders for file in Path(folder).rglob("*.png")})
    masks = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) >= 128 for file in files]
    return [mask for mask in masks if mask.any()]


def on_real_masks(masks, coverage):
    sampler = BoxSampler(coverage, law="resized_crop")
    rounds = [[draw(sampler, mask) for mask in masks] for _ in range(ROUNDS)]
    times = np.min([[seconds for seconds, _ in drawn] for drawn in rounds], axis=0) * 1000
    return {
        "min_coverage": coverage,
        "beyond_quick_path": sum(not quick for _, quick in rounds[0]),
        "ms_mean": round(float(times.mean()), 4),
        "ms_median": round(float(np.median(times)), 4),
        "ms_99_percent": round(float(np.percentile(times, 99)), 3),
        "ms_max": round(float(times.max()), 3),
    }


def worst_cases():
    """Name, mask and settings of masks where boxes are rare or too small."""
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH)) < DENSITY
    # Boxes of the greatest area cover their fraction of the noise on average, and few or none a little more.
    for scale in ((0.01, 0.05), (0.05, 0.1), (0.1, 0.2), (0.3, 0.5)):
        for factor in (1.003, 1.006, 1.02):
            yield f"noise, scale {scale}, {factor} x", noise, {"min_coverage": factor * scale[1], "scale": scale}
    wide = {"min_coverage": 0.1006, "scale": (0.05, 0.1), "ratio": (0.5, 2.0), "constraint": "pair"}
    yield "noise, pair, wide ratio", noise, wide
    corner = np.zeros((HEIGHT, WIDTH), bool)
    corner[-3:, -5:] = True
    yield "object in a corner", corner, {"min_coverage": 0.9}
    corners = np.zeros((HEIGHT, WIDTH), bool)
    corners[0, 0] = corners[-1, -1] = True
    yield "objects in two corners", corners, {"min_coverage": 0.9}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("masks", nargs="+")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    masks = real_masks(arguments.masks)
    row = {
        "benchmark": "crop_boxes",
        "masks": len(masks),
        "boxes": 2,
        "rounds": ROUNDS,
        "real_masks": [on_real_masks(masks, coverage) for coverage in COVERAGES],
        "megapixels": HEIGHT * WIDTH / 1e6,
        "worst_cases_s": {
            name: round(draw(BoxSampler(**settings), mask)[0], 2) for name, mask, settings in worst_cases()
        },
        "machine": machine(),
    }
    print(json.dumps(row))
    if arguments.output:
        write_json(arguments.output, row)


if __name__ == "__main__":
    main()
