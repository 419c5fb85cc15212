"""Run by test_world_sizes.py on one process and on two: the same steps on the same images."""

import os
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume, LastCheckpoint
from castlit.data import ScenesDataModule
from castlit.methods import MoCo, SimCLR
from castlit.optim import OptimizerRecipe
from support.networks import two_convolutions

RANKS = int(os.environ.get("WORLD_SIZE", "1"))

METHODS = {
    # The queue's size is no multiple of the batch's, so the order of the keys matters.
    "moco": lambda: MoCo(two_convolutions(), dim=16, queue_size=25, momentum=0.9, shuffle_bn=False),
    # Batch norm in the head: the CAM is differentiated through it, twice.
    "simclr": lambda: SimCLR(two_convolutions(), dim=16),
}


class Log(pl.Callback):
    """The logged metrics of each step."""

    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if "train" in key}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})


class Unmask(pl.Callback):
    """Empties the masks of some images: the ranks then have unequal numbers of objects."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch["query_mask"][batch["index"] % 3 == 0] = 0


def trained(folder, name="moco", key="masked_image", steps=14, images=16, resume=None):
    # Every rank starts with other weights and another queue: DDP and CASTModule must make them equal.
    pl.seed_everything(7, verbose=False)
    torch.manual_seed(7 + int(os.environ.get("RANK", "0")))
    # In float64: apart from rounding, nothing may depend on the number of ranks.
    data = ScenesDataModule(train_count=50, val_count=8, size=32, scene_size=36, batch_size=images // RANKS, workers=0)
    module = CASTModule(METHODS[name](), AttentionLoss(key=key), OptimizerRecipe(lr=0.01, schedule="constant"))
    log = Log()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp" if RANKS > 1 else "auto",
        sync_batchnorm=True,
        precision="64-true",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        callbacks=[log, Unmask(), ExactResume(), LastCheckpoint(folder)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    kinds = {type(part).__name__ for part in module.modules() if "BatchNorm" in type(part).__name__}
    return {"rows": log.rows, "state": state, "kinds": kinds}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, task = Path(sys.argv[1]), sys.argv[2]
    if task == "whole":
        method, key, steps = sys.argv[3:]
        found = trained(folder / "run", method, key, int(steps))
    else:  # resume in the other's folder, up to a step
        _, steps, images = task.split("-")
        last = folder / "last.ckpt"
        found = trained(folder, steps=int(steps), images=int(images), resume=last if last.exists() else None)
    torch.save(found, folder / f"{task}_of_{RANKS}_rank{os.environ.get('RANK', '0')}.pt")
