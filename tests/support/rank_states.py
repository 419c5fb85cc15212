"""A callback for the DDP test: each rank writes down what it holds when training ends."""

from pathlib import Path

import pytorch_lightning as pl
import torch


class RankStates(pl.Callback):
    def __init__(self, folder):
        self.folder = Path(folder)

    def on_fit_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"rank{trainer.global_rank}.pt")
