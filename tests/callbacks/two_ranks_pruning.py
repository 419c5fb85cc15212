"""Run by test_pruning.py on two processes."""

import os
import sys
from pathlib import Path

import torch
from test_pruning import fit

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    trainer, _ = fit(folder, ranks=2)
    told = {"epochs": trainer.current_epoch, "pruned": trainer.callbacks[0].pruned}
    torch.save(told, folder / f"rank{os.environ['RANK']}.pt")
