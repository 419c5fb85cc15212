"""Prepare 100 classes of Tiny-ImageNet for study=attention_tiny100, and measure masks against their boxes.

    python benchmarks/tiny100.py prepare tiny100.tar FOLDER
    python benchmarks/tiny100.py masks FOLDER MASKS [MASKS ...] output.json

``prepare`` unpacks the archive (``tiny100/train|val/<class>/*.JPEG``, ``boxes.csv``) and adds what the study's
protocols read: ``objects/images`` and ``objects/masks``, the validation images with their boxes as masks; and
``all/original/val``, all validation images.

``masks`` scores masks of the training images, in folders made by castlit.make_masks, against the boxes: the fraction of
the mask's energy in the box, the fraction of images whose brightest pixel is in it, and the IoU, as
castlit.evaluation.grounding.scores defines them; beside a Gaussian in the centre, and the mean area of the boxes, the
energy of a constant mask. The intervals are 95 % over images.
"""

import csv
import json
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import torch

from castlit.bench.machine import machine
from castlit.evaluation.grounding.scores import image_scores
from castlit.saliency.algorithms.baselines import centre_gaussian
from castlit.utils.json_files import write_json

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


def scores(made, boxed):
    """Energy, pointing and IoU of masks, with their intervals over the images whose mask is not empty."""
    shown = made.any((1, 2))
    found = image_scores(torch.from_numpy(made[shown]), torch.from_numpy(boxed[shown])[:, None])
    row = {name: with_interval(getattr(found, name).numpy()) for name in ("energy", "pointing", "iou")}
    return row | {"images": int(shown.sum()), "empty masks": int((~shown).sum())}


def read_mask(file):
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise SystemExit(f"{file}: no mask, or not an image")
    return mask


def with_interval(values):
    return {"mean": float(np.mean(values)), "interval": float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)}


def masks(folder, made, output):
    train = [(name, box) for name, box in boxes(folder) if name.startswith("train/")]
    boxed = np.stack([box for _, box in train])
    centre = centre_gaussian(np.zeros((SIDE, SIDE, 3), np.uint8))
    rows = {"a Gaussian in the centre": scores(np.broadcast_to(centre, boxed.shape).copy(), boxed)}
    for path in made:
        files = [(path / name.removeprefix("train/")).with_suffix(".png") for name, _ in train]
        if path.name in rows:
            raise SystemExit(f"{path}: another folder is named {path.name}, too: rows are named by the folder")
        rows[path.name] = scores(np.stack(list(map(read_mask, files))), boxed)
    content = {"machine": machine(), "mean area of the boxes": with_interval(boxed.mean((1, 2))), "masks": rows}
    write_json(output, content)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    if task == "prepare":
        prepare(*map(Path, paths))
    else:
        masks(Path(paths[0]), [Path(path) for path in paths[1:-1]], Path(paths[-1]))
