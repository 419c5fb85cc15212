"""Prepare 100 classes of Tiny-ImageNet for study=attention_tiny100, and measure masks against their boxes.

    python benchmarks/tiny100.py prepare tiny100.tar FOLDER
    python benchmarks/tiny100.py masks FOLDER MASKS [MASKS ...] output.json

``prepare`` unpacks the archive (``tiny100/train|val/<class>/*.JPEG``, ``boxes.csv``) and adds what the study's
protocols read: ``objects/images`` and ``objects/masks``, the validation images with their boxes as masks; and
``all/original/val``, all validation images.

``masks`` scores masks of the training images, in folders made by castlit.make_masks, against the boxes: the fraction of
the mask's energy in the box (energy), the fraction of images whose brightest pixel is in it (pointing), and the IoU at
half the maximum; beside a Gaussian in the centre, and the boxes' mean area, which is the energy of a constant mask. The
intervals are 95 % over images.
"""

import csv
import json
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np

from castlit.bench.machine import machine
from castlit.saliency.algorithms.baselines import centre_gaussian
from castlit.utils.progress_log import ProgressLog

SIDE = 64


def boxes(folder):
    """Path below the folder → a mask (64, 64) of the object's box, which is inclusive in boxes.csv."""
    with (folder / "tiny100" / "boxes.csv").open() as file:
        for row in csv.DictReader(file):
            mask = np.zeros((SIDE, SIDE), bool)
            mask[int(row["y1"]) : int(row["y2"]) + 1, int(row["x1"]) : int(row["x2"]) + 1] = True
            yield row["file"], mask


def prepare(archive, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for name, mask in boxes(folder):
        split, label, file = name.split("/")
        if split == "val":
            path = folder / "objects" / "masks" / label / f"{Path(file).stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask * np.uint8(255))
    for link in (folder / "objects" / "images", folder / "all" / "original" / "val"):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((folder / "tiny100" / "val").resolve())


def measured(mask, box):
    """Energy, pointing and IoU of one mask."""
    salient = mask >= mask.max() / 2
    energy = mask[box].sum() / mask.sum()
    pointing = box[np.unravel_index(mask.argmax(), mask.shape)]
    return energy, pointing, (salient & box).sum() / (salient | box).sum()


def with_interval(values):
    return {"mean": float(np.mean(values)), "interval": float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)}


def masks(folder, made, output):
    centre = centre_gaussian(np.zeros((SIDE, SIDE, 3), np.uint8))
    found = {name: [] for name in (*(path.name for path in made), "a Gaussian in the centre")}
    areas, empty = [], dict.fromkeys(found, 0)
    train = [(name, box) for name, box in boxes(folder) if name.startswith("train/")]
    with ProgressLog("Measuring", len(train)) as log:
        for name, box in train:
            areas.append(box.mean())
            found["a Gaussian in the centre"].append(measured(centre, box))
            for path in made:
                mask = cv2.imread(str((path / name.removeprefix("train/")).with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
                if mask is None:
                    raise SystemExit(f"{path} has no mask of {name}")
                if mask.any():
                    found[path.name].append(measured(mask.astype(float), box))
                else:
                    empty[path.name] += 1
            log.advance()
    rows = {}
    for name, values in found.items():
        columns = np.array(values, float).T
        rows[name] = {
            key: with_interval(column) for key, column in zip(("energy", "pointing", "iou"), columns, strict=True)
        }
        rows[name] |= {"images": len(values), "empty masks": empty[name]}
    content = {"machine": machine(), "mean area of the boxes": with_interval(areas), "masks": rows}
    output.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    if task == "prepare":
        prepare(*map(Path, paths))
    else:
        masks(Path(paths[0]), [Path(path) for path in paths[1:-1]], Path(paths[-1]))
