"""Is there one channel that marks the object in every image, and does what features know of objects go through it?

    python benchmarks/saliency_channel.py --output row.json NAME=CHECKPOINT ...

A NAME may be given several times, with one checkpoint for each seed. Scenes on random backgrounds, as in
+protocol=scenes.

`auc`: a linear direction of the feature map's cells, fitted to tell object from background on five of the ten classes,
is asked to do so on the other five. 0.5: there is no such channel; 1: it marks objects of unseen classes, too.
`auc without`: a direction fitted anew after `--directions` such directions have been projected out, one after the
other (iterative nullspace projection, Ravfogel et al., ACL 2020).
`object_information`: the protocol's, from pooled features; `without`: of features without these directions; `without
others`: without as many random directions.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from networks import measure_networks
from torch.nn import functional as F

from castlit import CASTModule
from castlit.data import ArraySource, EvalDataset, collate
from castlit.data.scenes import Scenes
from castlit.evaluation.frozen import as_linear, linear_probe

SCENES = {"train": (4096, 1), "test": (1000, 0)}
"""Number of scenes and their seed, as in the protocol."""


def load_scenes():
    """Batches of images and masks, and the objects' classes, by split."""
    found = {}
    for split, (count, seed) in SCENES.items():
        scenes = Scenes(count, split="mixed_rand", size=72, seed=seed)
        data = EvalDataset(ArraySource(scenes.images, scenes.masks, scenes.objects), 64, 64, None)
        loader = torch.utils.data.DataLoader(data, 256, collate_fn=collate)
        found[split] = [(batch["image"], batch["mask"]) for batch in loader], np.asarray(scenes.objects)
    return found


@torch.inference_mode()
def cells_of(backbone, batches):
    """The feature map's cells (N, cells, C), and what fraction of each the object covers (N, cells)."""
    features, covered = [], []
    for images, masks in batches:
        maps = backbone(images).float()
        features.append(maps.flatten(2).transpose(1, 2))
        covered.append(F.adaptive_avg_pool2d(masks.float(), maps.shape[-2:]).flatten(1))
    return torch.cat(features).numpy(), torch.cat(covered).numpy()


def marking_direction(cells, is_object):
    """The unit vector (C,) of a logistic regression that tells object cells from background cells."""
    weight = as_linear(linear_probe(cells, is_object.astype(np.int64)))[0][1]
    return weight / np.linalg.norm(weight)


def auc_on_unseen(cells, covered, classes, held_out):
    """Area under the ROC curve on cells of classes that the direction was not fitted on; the mean over two halves."""
    from sklearn.metrics import roc_auc_score

    found = []
    for unseen in (held_out, ~held_out):
        fitted, tested = ~unseen[classes], unseen[classes]
        direction = marking_direction(*labelled(cells[fitted], covered[fitted]))
        values, is_object = labelled(cells[tested], covered[tested])
        found.append(roc_auc_score(is_object, values @ direction))
    return float(np.mean(found))


def labelled(cells, covered):
    """Cells that are mostly object or hardly: features (M, C) and booleans (M,)."""
    clear = (covered > 0.5) | (covered < 0.05)
    return cells[clear], covered[clear] > 0.5


def without(features, basis):
    """Features (..., C) with an orthonormal basis (k, C) projected out."""
    return features - (features @ basis.T) @ basis


def measure(checkpoint, scenes, directions, rng):
    module = CASTModule.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    seen = {split: cells_of(module.method.encoder.backbone, batches) for split, (batches, _) in scenes.items()}
    classes = {split: objects for split, (_, objects) in scenes.items()}
    (cells, covered), (test_cells, _) = seen["train"], seen["test"]
    some = slice(1000)  # images are enough for directions of C numbers
    held_out = np.arange(10) % 2 == 0

    def information(change):
        probe = linear_probe(change(cells.mean(1)), classes["train"])
        return float(probe.score(change(test_cells.mean(1)), classes["test"]))

    basis = np.empty((0, cells.shape[-1]))
    for _ in range(directions):
        direction = marking_direction(*labelled(without(cells[some], basis), covered[some]))
        direction = without(direction, basis)
        basis = np.concatenate([basis, direction[None] / np.linalg.norm(direction)])
    others = np.linalg.qr(rng.standard_normal((cells.shape[-1], directions)))[0].T
    return {
        "auc": auc_on_unseen(cells[some], covered[some], classes["train"][some], held_out),
        "auc without": auc_on_unseen(without(cells[some], basis), covered[some], classes["train"][some], held_out),
        "object_information": information(lambda features: features),
        "object_information without": information(lambda features: without(features, basis)),
        "object_information without others": information(lambda features: without(features, others)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=CHECKPOINT")
    parser.add_argument("--directions", type=int, default=48)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    scenes, rng = load_scenes(), np.random.default_rng(0)
    row = {"benchmark": "saliency_channel", "directions": given.directions}
    measure_networks(
        row, given.networks, lambda checkpoint: measure(checkpoint, scenes, given.directions, rng), given.output
    )


if __name__ == "__main__":
    main()
