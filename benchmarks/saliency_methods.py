r"""Score all saliency methods on several sets of photographs with ground truth.

    python benchmarks/saliency_methods.py --set NAME IMAGES MASKS [--set ...] [--maps SET NAME FOLDER ...]
        [--methods rbd fused ...] [--count 200] [--workers 2] [--output row.json]

IMAGES and MASKS are folders, paired by name; images without a mask, or with an empty one, are left out. --maps adds
existing maps of a set's images (castlit.make_masks), such as those of DeepUSPS. Metrics and their 95 % intervals over
images are those of +protocol=saliency. The row is written after each set, so that a run that is stopped keeps what it
has. With the photographs of this project's measurements:

    DATA=../shared/data
    python benchmarks/saliency_methods.py --output benchmarks/results/saliency_methods.json \
        --set ecssd_dev $DATA/ecssd_dev/images $DATA/ecssd_dev/masks \
        --set coco_small $DATA/coco_small/train2017 $DATA/coco_small/masks/train2017 \
        --set voc_small $DATA/voc_small/VOCdevkit/VOC2007/JPEGImages $DATA/voc_small/VOCdevkit/VOC2007/SaliencyMasks
"""

import argparse
from pathlib import Path

from rich.console import Console

from castlit.bench.machine import machine
from castlit.data import SaliencyDataModule
from castlit.evaluation import evaluate_saliency
from castlit.reporting.tables import metrics_table
from castlit.saliency.algorithms.registry import METHODS
from castlit.utils.json_files import write_json


def rounded(value):
    """Numbers to four digits, in dictionaries and pairs, too."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, tuple) else round(value, 4)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=3, action="append", required=True, metavar=("NAME", "IMAGES", "MASKS"))
    parser.add_argument("--maps", nargs=3, action="append", default=[], metavar=("SET", "NAME", "FOLDER"))
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--count", type=int, help="score a fixed sample of at most this many images of each set")
    parser.add_argument("--workers", type=int, help="processes; one per core unless given")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    sets = [name for name, _, _ in given.set]
    if len(set(sets)) < len(sets):
        parser.error(f"--set {' '.join(sets)}: give each set a name of its own")
    for of_set, name, _ in given.maps:
        if of_set not in sets:
            parser.error(f"--maps {of_set} {name}: there is no --set {of_set}")
    return given


def main():
    given = arguments()
    row = {"benchmark": "saliency_methods", "count": given.count, "sets": {}, "machine": machine()}
    for name, images, masks in given.set:
        table = evaluate_saliency(
            SaliencyDataModule(images, masks, on_bad="drop"),
            methods=given.methods,
            maps={of_map: folder for of_set, of_map, folder in given.maps if of_set == name},
            count=given.count,
            workers=given.workers,
        )
        row["sets"][name] = {"results": rounded(dict(table)), "intervals": rounded(table.intervals)}
        Console(soft_wrap=True, width=160, highlight=False).print(metrics_table(name, table))
        if given.output:
            write_json(given.output, row)


if __name__ == "__main__":
    main()
