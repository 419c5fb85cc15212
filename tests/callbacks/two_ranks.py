"""Run by test_supervision_two_ranks.py: another SimSiam with the callback, and castlit's own, under DDP."""

import os
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import AttentionSupervision, MaskedKey
from castlit.methods import SimSiam
from castlit.nn import HeadNorm
from castlit.optim import OptimizerRecipe
from support.networks import two_convolutions

RANKS = int(os.environ.get("WORLD_SIZE", "1"))


class Theirs(pl.LightningModule):
    """SimSiam independent of castlit, with torch's batch norms in its heads."""

    def __init__(self, method):
        super().__init__()
        self.net, self.projector, self.predictor = method.encoder.backbone, method.encoder.head, method.predictor
        for part in self.modules():
            if isinstance(part, HeadNorm):
                part.__class__ = nn.BatchNorm1d

    def project(self, images):
        return self.projector(self.net(images).mean((2, 3)))

    def training_step(self, batch, batch_idx):
        z, other = self.project(batch["query"]), self.project(batch["key"])
        p, other_p = self.predictor(z), self.predictor(other)
        similarity = F.cosine_similarity(p, other.detach()) + F.cosine_similarity(other_p, z.detach())
        return -0.5 * similarity.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def samples(count):
    torch.manual_seed(0)
    made = [
        {
            "query": torch.randn(3, 16, 16, dtype=torch.float64),
            "key": torch.randn(3, 16, 16, dtype=torch.float64),
            "query_mask": (torch.rand(1, 16, 16) > 0.6).byte(),
            "key_mask": (torch.rand(1, 16, 16) > 0.4).byte(),
        }
        for _ in range(count)
    ]
    for sample in made[::3]:  # the ranks have unequal numbers of objects
        sample["query_mask"].zero_()
    return made


def trained(theirs, accumulate=1):
    torch.manual_seed(3)
    method = SimSiam(two_convolutions(), dim=8, hidden=9)
    if theirs:
        module = Theirs(method)
        target = MaskedKey("project")
        callbacks = [AttentionSupervision("net", target=target, embedding="predictor")]
    else:
        recipe = OptimizerRecipe("sgd", lr=0.05, momentum=0.0, weight_decay=0, schedule="constant")
        module, callbacks = CASTModule(method, AttentionLoss(layer="layer4"), recipe), []
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=RANKS,
        strategy="ddp" if RANKS > 1 else "auto",
        sync_batchnorm=True,
        use_distributed_sampler=False,
        precision="64-true",
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    made = samples(24)
    # Interleaved over the ranks: the same batches for any number of ranks.
    mine = made[int(os.environ.get("RANK", "0")) :: RANKS]
    trainer.fit(module, DataLoader(mine, 8 // RANKS))
    metrics = {name: float(trainer.callback_metrics[f"train/{name}"]) for name in ("attention", "pointing")}
    return {"weights": [p.detach() for p in module.parameters()], "steps": trainer.global_step, **metrics}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = {
        "theirs": trained(True),
        "castlit's": trained(False),
        "theirs, accumulated": trained(True, accumulate=3),
        "castlit's, accumulated": trained(False, accumulate=3),
    }
    torch.save(found, Path(sys.argv[1]) / f"rank{os.environ.get('RANK', '0')}.pt")
