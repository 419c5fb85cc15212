r"""Compare maps of DeepUSPS, of several seeds, with others image by image: differences with 95 % intervals.

    python benchmarks/deepusps.py --set NAME IMAGES MASKS [--set ...] --against SET FOLDER [--against ...]
        --maps SET NAME FOLDER [--maps ...] [--output benchmarks/results/deepusps.json]

IMAGES, MASKS and FOLDER are folders, paired by name; images without a map in every folder, or with an empty mask, are
left out. Maps of the same SET and NAME are seeds of one method, and are averaged. castlit.make_masks makes them:

    python -m castlit.make_masks images=/photos output=fused quality=fused
    python -m castlit.make_masks images=/photos output=seed_0 quality=deepusps deepusps.seed=0

max F is that of the mean precision and recall (`max_f_of_means` of +protocol=saliency). Its difference is linearised in
them, image by image, as the protocol's intervals are. Intervals are over images; they say nothing about other seeds,
whose own values are in the row.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from castlit.bench.machine import machine
from castlit.data.io.images import read_bytes
from castlit.data.io.masks import THRESHOLD, decode_map, decode_mask
from castlit.evaluation.saliency.moments import half_width
from castlit.evaluation.saliency.scores import at_size, overlap, slopes
from castlit.evaluation.saliency.thresholds import curves, f_measure
from castlit.utils.json_files import write_json

METRICS = ("max_f_of_means", "mae", "iou")


def scores(path, inside):
    """Precision and recall at each threshold, (512,), then MAE and IoU, as SaliencyScores has them."""
    levels, stretched = at_size(decode_map(read_bytes(path), str(path)), inside.shape)
    found = curves(stretched, inside)
    others = (np.abs(stretched - inside).mean(), overlap(levels > THRESHOLD * 255, inside))
    return np.concatenate([found.precision, found.recall, others])


def parts(table):
    """Each image's part (N, 3) in the three metrics, whose means are the metrics."""
    precision, recall = table[:, :256], table[:, 256:512]
    f = f_measure(precision.mean(0), recall.mean(0))
    best = int(f.argmax())
    p, r = precision[:, best], recall[:, best]
    by_precision, by_recall = slopes(p.mean(), r.mean())
    linear = f[best] + by_precision * (p - p.mean()) + by_recall * (r - r.mean())
    return np.stack([linear, table[:, 512], table[:, 513]], 1)


def pair(mean, variance, count):
    """A mean and the half width of its 95 % interval."""
    return [round(float(mean), 4), round(half_width(float(variance), count), 4)]


def compare(images, masks, against, methods, leave_out):
    """The row of a set: ``methods`` are lists of folders, one for each seed, by name."""
    folders = [against, *(folder for seeds in methods.values() for folder in seeds)]
    tables = {folder: [] for folder in folders}
    for number, image in enumerate(sorted(Path(images).iterdir())):
        name = f"{image.stem}.png"
        if leave_out and number % leave_out == 0:
            continue
        if not all((Path(folder) / name).is_file() for folder in (masks, *folders)):
            continue
        inside = decode_mask(read_bytes(Path(masks) / name), name) > 0
        if inside.any():
            for folder in folders:
                tables[folder].append(scores(Path(folder) / name, inside))
    found = {folder: parts(np.array(table)) for folder, table in tables.items()}
    base = found[against]
    count = len(base)
    row = {
        "images": count,
        "against": {m: pair(base[:, i].mean(), base[:, i].var(ddof=1), count) for i, m in enumerate(METRICS)},
    }
    for name, seeds in methods.items():
        of_seeds = np.array([found[folder] for folder in seeds])
        mean = of_seeds.mean(0)
        row[name] = {
            metric: {
                "mean": pair(mean[:, i].mean(), mean[:, i].var(ddof=1), count),
                "difference": pair((mean - base)[:, i].mean(), (mean - base)[:, i].var(ddof=1), count),
                "of_each_seed": [round(float(value), 4) for value in of_seeds[:, :, i].mean(1)],
            }
            for i, metric in enumerate(METRICS)
        }
    return row


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=3, action="append", required=True, metavar=("NAME", "IMAGES", "MASKS"))
    parser.add_argument("--against", nargs=2, action="append", required=True, metavar=("SET", "FOLDER"))
    parser.add_argument("--maps", nargs=3, action="append", required=True, metavar=("SET", "NAME", "FOLDER"))
    parser.add_argument("--leave-out", type=int, metavar="N", help="leave out every Nth image: those of the choices")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main():
    given = arguments()
    row = {"benchmark": "deepusps", "leave_out": given.leave_out, "sets": {}}
    row["columns"] = "value, half of its 95 % interval over images"
    for of_set, images, masks in given.set:
        methods = {}
        for name, method, folder in given.maps:
            if name == of_set:
                methods.setdefault(method, []).append(folder)
        row["sets"][of_set] = compare(images, masks, dict(given.against)[of_set], methods, given.leave_out)
        print(of_set, json.dumps(row["sets"][of_set]), flush=True)
    row["machine"] = machine()
    if given.output:
        write_json(given.output, row)


if __name__ == "__main__":
    main()
