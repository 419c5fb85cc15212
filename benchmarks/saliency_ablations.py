r"""Score each saliency method with one of its choices changed, to see what the choice is worth.

    python benchmarks/saliency_ablations.py IMAGES MASKS [--count 300] [--methods rbd hs ...] [--output row.json]

Metrics and 95 % intervals over images as in +protocol=saliency. The row is written after each line, so that a run that
is stopped keeps what it has. With the photographs of this project's measurements:

    python benchmarks/saliency_ablations.py ../shared/data/ecssd_dev/images ../shared/data/ecssd_dev/masks \
        --output benchmarks/results/saliency_ablations.json
"""

import argparse
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from castlit.bench.machine import machine
from castlit.data import SaliencyDataModule
from castlit.evaluation import evaluate_saliency
from castlit.saliency.algorithms import fusion, hierarchy, markov_chain, reconstruction, robust_background
from castlit.saliency.algorithms.refine import finish
from castlit.saliency.algorithms.registry import METHODS
from castlit.saliency.algorithms.superpixels import stretch
from castlit.utils.json_files import write_json

KEPT = ("max_f_of_means", "max_f", "mean_f", "mae", "iou")


def constant(module, name, value):
    return partial(patch.object, module, name, value)


def replaced(method, function):
    return partial(patch.dict, METHODS, {method: function})


def mean_before_sharpening(image, maps):
    found = [values for values in maps if values.any()]
    return finish(image, stretch(np.mean(found, 0)).astype(np.float32)) if found else maps[0]


def without_hs(image):
    scales = fusion.DSR_SCALES
    maps = [METHODS["rbd"](image), METHODS["mc"](image, fusion.COUNT), reconstruction.dsr(image, scales)]
    return fusion.fuse(image, maps)


ABLATIONS = {
    "rbd": {
        "200 superpixels, as at 400 by 300": replaced("rbd", partial(robust_background.rbd, count=200)),
        "contrast not cleaned": constant(robust_background, "clean", lambda contrast: contrast),
        "sure background weighted as other": constant(robust_background, "SURE_BACKGROUND", np.inf),
        "background weight 1": constant(robust_background, "BACKGROUND_WEIGHT", 1.0),
        "border of one pixel": constant(robust_background, "BORDER", 0.0),
    },
    "mc": {
        "walks from what is alone count": constant(markov_chain, "ALONE", 0.0),
        "300 superpixels": replaced("mc", partial(markov_chain.mc, count=300)),
    },
    "dsr": {
        "four scales, as in fused": replaced("dsr", partial(reconstruction.dsr, scales=fusion.DSR_SCALES)),
        "histograms hardly smoothed": constant(reconstruction, "HISTOGRAM_SIGMA", 0.3),
        "8 clusters": constant(reconstruction, "CLUSTERS", 8),
        "95 % of the variance": constant(reconstruction, "VARIANCE_KEPT", 0.95),
        "border of one pixel": constant(reconstruction, "BORDER", 0.0),
    },
    "hs": {
        "links of the paper's weight": constant(hierarchy, "LINK_WEIGHT", 4.0),
        "regions of 17 and 33 pixels": constant(hierarchy, "SCALES", (17, 33)),
        "regions of 11 and 21 pixels": constant(hierarchy, "SCALES", (11, 21)),
        "nearness falls over 0.05": constant(hierarchy, "NEARNESS", 0.05),
    },
    "fast": {
        "RBD alone": replaced("fast", lambda image: fusion.fuse(image, [METHODS["rbd"](image)])),
        "MC alone": replaced("fast", lambda image: fusion.fuse(image, [METHODS["mc"](image)])),
        "mean before sharpening": constant(fusion, "fuse", mean_before_sharpening),
    },
    "fused": {
        "without HS": replaced("fused", without_hs),
        "mean before sharpening": constant(fusion, "fuse", mean_before_sharpening),
        "all of DSR's scales": constant(fusion, "DSR_SCALES", reconstruction.SCALES),
    },
}
"""For each method, what is changed, and a context in which it is."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("--count", type=int, help="score a fixed sample of at most this many images")
    parser.add_argument("--methods", nargs="*", choices=list(ABLATIONS), default=list(ABLATIONS))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    row = {"benchmark": "saliency_ablations", "count": given.count, "methods": {}, "machine": machine()}
    for method in given.methods:
        unchanged = {"as it is": partial(patch.dict, METHODS)}
        for name, changed in {**unchanged, **ABLATIONS[method]}.items():
            with changed():
                data = SaliencyDataModule(given.images, given.masks, on_bad="drop")
                table = evaluate_saliency(data, [method], floors=False, count=given.count, workers=0)
            found = {
                metric: [round(table[method][metric], 4), *(round(end, 4) for end in table.intervals[method][metric])]
                for metric in KEPT
            }
            row["methods"].setdefault(method, {})[name] = found
            print(f"{method:6} {name:36}", "  ".join(f"{metric} {found[metric][0]:.3f}" for metric in KEPT), flush=True)
            if given.output:
                write_json(given.output, row)


if __name__ == "__main__":
    main()
