"""Fine-tune a detector on each of several processes; run by test_two_ranks.py."""

import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from castlit.evaluation.detection import evaluate_voc_detection
from castlit.nn import build_backbone
from castlit.nn.sync_batchnorm import SyncBatchNorm


class Keep(pl.Callback):
    def on_validation_end(self, trainer, module):
        self.weights = {name: value.clone() for name, value in module.state_dict().items()}
        self.found = [(one.number, one.boxes.tolist()) for one in module.detected]
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self.synchronised = sum(isinstance(part, SyncBatchNorm) for part in norms) / len(norms)


folder = Path(sys.argv[1])
pl.seed_everything(0, verbose=False)
keep = Keep()
scores = evaluate_voc_detection(
    build_backbone("tiny_resnet"),
    folder / "run",
    "random",
    0,
    folder / "VOCdevkit",
    iterations=2,
    batch_size=2,
    min_size=[64],
    max_size=96,
    anchors=(8, 16, 32, 48, 64),
    boxes=4,
    proposals=5,
    workers=0,
    classes="present",
    callbacks={"keep": keep},
    trainer=partial(
        pl.Trainer, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False, enable_model_summary=False
    ),
)
found = {"scores": scores, "weights": keep.weights, "found": keep.found, "synchronised": keep.synchronised}
torch.save(found, folder / f"rank{dist.get_rank()}.pt")
