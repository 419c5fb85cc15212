"""Where do pooled features lie, and does the CAM see it: on the objects, on the border of the feature map, elsewhere?

    python benchmarks/feature_borders.py --images FOLDER --masks FOLDER --size 96 --output row.json NAME=CHECKPOINT ...

A NAME may be given several times, with one checkpoint for each seed. For each image with a mask, as fractions:

`cells`: the border cells' part of the feature map, what a network without preference would have.
`features`: their part of the features CAM (castlit.evaluation.grounding.questions), by side and in all.
`for`, `against`: their part of the pretext CAM's positive and of its negative values, before its ReLU.
`negative`: the negative values' part of the pretext CAM. The paper's loss does not see them.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from networks import measure_networks

from castlit import CASTModule
from castlit.attention import has_object, tap
from castlit.attention.cam import raw_cam
from castlit.attention.keys import KEYS
from castlit.data import SaliencyDataModule
from castlit.evaluation.grounding.questions import questions
from castlit.evaluation.network import Network
from castlit.module.explain import embed, known_negatives, score_of
from castlit.nn import batch_statistics

SIDES = {"top": np.s_[:, :1], "bottom": np.s_[:, -1:], "left": np.s_[:, :, :1], "right": np.s_[:, :, -1:]}


def pretext_cam(module, images, masks):
    """The CAM (N, h, w) of castlit.CASTModule.explain, before its ReLU."""
    method, attention = module.method, module.cam_attention
    with torch.no_grad(), tap(method.encoder, attention.find_layers(method.encoder)[-1], leaf=True) as activations:
        query = embed(method, images)
    with batch_statistics(method, len(images)), torch.no_grad():
        key = KEYS[attention.key]
        z_km = key.embed(method, images, key.region(masks))
    score = score_of(method, attention, query, z_km, known_negatives(method, attention))
    return raw_cam(score, activations, create_graph=False).detach()


def ring(maps):
    """Whether a cell of maps (N, h, w) is at the border."""
    found = torch.zeros(maps.shape[1:], dtype=torch.bool)
    for side in SIDES.values():
        found[None][side] = True
    return found


def part(some, all_of):
    """Each map's sum of some values over its sum of all, without the images in which there are none."""
    sums = all_of.flatten(1).sum(1)
    return (some.flatten(1).sum(1) / sums)[sums > 0]


def measure(checkpoint, batches):
    """The fractions' means over images, by name."""
    module = CASTModule.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    ask = questions(Network("", module.method.encoder.backbone, None))["features"]
    found = defaultdict(list)
    for batch in batches:
        features = ask(batch).detach()
        border = ring(features)
        for name, side in SIDES.items():
            found[f"features, {name}"].append(part(features[side], features))
        found["features"].append(part(features * border, features))
        raw = pretext_cam(module, batch["image"], batch["mask"])
        for name, values in (("for", raw.relu()), ("against", (-raw).relu())):
            found[name].append(part(values * border, values))
        found["negative"].append(part((-raw).relu(), raw.abs()))
    means = {name: torch.cat(parts).double().mean().item() for name, parts in found.items()}
    return {"cells": border.double().mean().item(), **means}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=CHECKPOINT")
    parser.add_argument("--images", required=True)
    parser.add_argument("--masks", required=True)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    data = SaliencyDataModule(given.images, given.masks, size=given.size, batch_size=96, on_bad="drop", workers=0)
    data.setup("validate")
    batches = []
    for batch in data.val_dataloader():
        shown = has_object(batch["mask"])
        batches.append({name: values[shown] for name, values in batch.items()})
    row = {"benchmark": "feature_borders"}
    measure_networks(row, given.networks, lambda checkpoint: measure(checkpoint, batches), given.output)


if __name__ == "__main__":
    main()
