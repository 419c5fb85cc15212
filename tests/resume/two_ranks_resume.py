"""What test_resume_two_ranks.py runs on two processes: a run, and the same run stopped by a signal to one of them."""

import os
import signal
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume, FiniteLoss, LastCheckpoint, MetricsCSV
from castlit.data import ScenesDataModule
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.signals import Stopped
from castlit.utils.validation import InputError

RANK = int(os.environ["RANK"])


class Noisy(CASTModule):
    """Each rank draws its own."""

    def training_step(self, batch, batch_idx):
        return super().training_step({**batch, "query": batch["query"] + 0.1 * torch.randn(())}, batch_idx)


class SignalRank(pl.Callback):
    """Sends SIGTERM to one rank, the ``count``-th time a hook is called there."""

    def __init__(self, rank, hook, count):
        self.rank, self.left = rank, count
        setattr(self, hook, self._send)

    def _send(self, *_, **__):
        self.left -= 1
        if self.left == 0 and self.rank == RANK:
            os.kill(os.getpid(), signal.SIGTERM)


class Reductions(pl.Callback):
    """Counts what Lightning reduces over the ranks, and then reads, from a step's start to its backward pass."""

    def __init__(self):
        self.within_steps, self._count, self._before = 0, 0, 0

    def setup(self, trainer, pl_module, stage):
        reduce = trainer.strategy.reduce

        def counted(*values, **options):
            self._count += 1
            return reduce(*values, **options)

        trainer.strategy.reduce = counted

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._before = self._count

    def on_before_backward(self, trainer, pl_module, loss):
        self.within_steps += self._count - self._before


class Poison(pl.Callback):
    """Puts NaN into a batch of one rank."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 4 and RANK == 1:
            batch["query"][:] = float("nan")


def run(folder, *extra, resume=None):
    pl.seed_everything(3 + RANK, verbose=False)
    torch.manual_seed(3 + RANK)
    data = ScenesDataModule(train_count=40, val_count=8, size=32, scene_size=36, batch_size=4, workers=0)
    network = MoCo("tiny_resnet", dim=8, queue_size=23, momentum=0.9)
    module = Noisy(network, AttentionLoss(), OptimizerRecipe(lr=0.05))
    logger = MetricsCSV(folder, name="", version="")
    if resume is not None:
        logger.keep(torch.load(resume, weights_only=True)["castlit"]["rows"])
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        logger=logger,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[*extra, FiniteLoss(folder / "bad.json"), ExactResume(), LastCheckpoint(folder)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    weights = {key: parameter.detach() for key, parameter in module.named_parameters()}
    return {"weights": weights, "queue": module.method.queue.keys, "draw": torch.rand(3), "steps": trainer.global_step}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    reductions = Reductions()
    found = {"whole": run(folder / "whole", reductions), "reductions": reductions.within_steps}
    for name, (rank, hook, count) in {
        "the second, in a step": (1, "on_train_batch_end", 3),
        "the first, in a validation": (0, "on_validation_start", 1),
    }.items():
        try:
            run(folder / name, SignalRank(rank, hook, count))
        except Stopped as stop:
            code = stop.code
        found[name] = {**run(folder / name, resume=folder / name / "last.ckpt"), "code": code}
    try:
        run(folder / "poisoned", Poison())
    except InputError as error:
        found["poisoned"] = str(error)
    torch.save(found, folder / f"rank{RANK}.pt")
