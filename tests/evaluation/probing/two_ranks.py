"""A frozen linear classifier on one or more processes: its metrics and weights, as rank<N>.pt.

With a fourth argument, the second process looks for the checkpoint in another folder and finds none.
"""

import os
import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from castlit.callbacks import LastCheckpoint
from castlit.evaluation import probing
from castlit.utils.distributed import rank
from castlit.utils.validation import InputError

folder, root, devices = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kept = []


class Kept(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        kept.append({name: x.clone() for name, x in pl_module.head.state_dict().items()})


if __name__ == "__main__":
    trainer = partial(
        pl.Trainer,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    apart = len(sys.argv) > 4
    output = folder / "elsewhere" if apart and os.environ["RANK"] == "1" else folder
    parts = {"kept": Kept(), "last": partial(LastCheckpoint, dirpath="checkpoints")}
    try:
        results = probing.evaluate_linear(
            nn.AvgPool2d(4), output, "random", 0, root, epochs=3, lr=1.0, drops=(2,), batch_size=10, size=32,
            workers=0, trainer=trainer, callbacks=parts, resume="last" if apart else None,
        )  # fmt: skip
    except InputError as error:
        results, kept = str(error), [None]
    torch.save({"results": results, "head": kept[0]}, folder / f"rank{rank()}.pt")
