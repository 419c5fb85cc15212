"""Run by test_self_masks.py on two processes: resume from one process's checkpoint."""

import os
import shutil
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from test_self_masks import run

RANK = int(os.environ["RANK"])


class Keep(pl.Callback):
    """Keeps the first masks, which the run removes later, and a batch norm statistic of each rank."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 3:
            self.own = pl_module.method.encoder.backbone.bn1.running_mean.clone()
            if RANK == 0:
                shutil.copytree(self.folder, self.folder.parents[1] / "kept" / "self_masks")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    keep = Keep(folder / "two" / "self_masks")
    start = folder / "one" / "checkpoints" / "last.ckpt"
    noted = run(folder / "two", folder / "photographs", extra=[keep], resume=start, ranks=2)
    weights = {name: tensor for name, tensor in noted.weights.items() if "running" not in name}
    torch.save({"weights": weights, "versions": noted.versions, "own": keep.own}, folder / f"rank{RANK}.pt")
