"""Run by test_activation_checkpointing.py on two processes: Lightning's DDP with the switch on and off."""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import SimCLR
from castlit.optim import OptimizerRecipe


def samples(count):
    torch.manual_seed(0)
    return [
        {
            "query": torch.randn(3, 16, 16),
            "key": torch.randn(3, 16, 16),
            "query_mask": (torch.rand(1, 16, 16) > 0.6).byte(),
            "key_mask": (torch.rand(1, 16, 16) > 0.4).byte(),
        }
        for _ in range(count)
    ]


def trained(precision, switch, synchronised=False):
    torch.manual_seed(3)
    module = CASTModule(
        SimCLR("tiny_resnet", dim=8), AttentionLoss(), OptimizerRecipe(lr=0.05), activation_checkpointing=switch
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        precision=precision,
        sync_batchnorm=synchronised,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(samples(16), 4))
    return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}, trainer.global_rank


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = {}
    for switch in (False, True):
        for precision in ("32-true", "bf16-mixed"):
            found[precision, switch], rank = trained(precision, switch)
        found["synchronised", switch], rank = trained("32-true", switch, synchronised=True)
    torch.save(found, Path(sys.argv[1]) / f"rank{rank}.pt")
