"""Why is linear/only_fg near chance? Probes of a study's encoders on objects on black.

    python benchmarks/objects_on_black.py studies/cast output.json [CONFIGURATION ...]

For each run: a linear probe trained on scenes like those of the training and tested on objects on black (linear/only_fg
with fewer scenes); the same after scaling the test features to the training features' mean and standard deviation,
channel by channel; a probe trained on objects on black; and the shift of the mean feature on black, in standard
deviations of the training features. Fractions are in [0, 1].
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.bench.machine import machine
from castlit.data import ArraySource, EvalDataset, collate
from castlit.data.scenes import Scenes
from castlit.evaluation import linear_probe
from castlit.utils.json_files import write_json

SIZE, SCENE = 64, 72
CONFIGURATIONS = ("mocov2", "cast_mocov2")


@torch.inference_mode()
def features(backbone, scenes):
    """(N, C) pooled features."""
    dataset = EvalDataset(ArraySource(scenes.images, scenes.masks, scenes.objects), SIZE, SIZE, None)
    batches = DataLoader(dataset, 256, collate_fn=collate)
    return np.concatenate([backbone(batch["image"]).mean((2, 3)).numpy() for batch in batches])


def main(study, output, configurations):
    like_training = Scenes(2048, size=SCENE, background_correlation=0.9, seed=1)
    black_train, black_test = (
        Scenes(count, split="only_fg", size=SCENE, seed=seed) for count, seed in ((2048, 1), (1000, 0))
    )
    rows = {}
    for name in configurations:
        for folder in sorted((study / "runs" / name).glob("seed_*")):
            module = CASTModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", map_location="cpu").eval()
            backbone = module.method.encoder.backbone
            seen, black = features(backbone, like_training), features(backbone, black_test)
            # Channels that are always 0 have no spread.
            mean, spread = seen.mean(0), np.maximum(seen.std(0), 1e-6)
            moved = (black - black.mean(0)) / np.maximum(black.std(0), 1e-6) * spread + mean
            probe = linear_probe(seen, like_training.objects)
            on_black = linear_probe(features(backbone, black_train), black_train.objects)
            row = {
                "probe": float(probe.score(black, black_test.objects)),
                "probe, features brought to the training's mean and spread": float(
                    probe.score(moved, black_test.objects)
                ),
                "probe trained on black": float(on_black.score(black, black_test.objects)),
                "shift in standard deviations": float(np.abs((black.mean(0) - mean) / spread).mean()),
            }
            rows.setdefault(name, {})[folder.name.removeprefix("seed_")] = row
            print(name, folder.name, {key: round(value, 3) for key, value in row.items()}, flush=True)
    write_json(output, {"machine": machine(), "arms": rows})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or CONFIGURATIONS)
