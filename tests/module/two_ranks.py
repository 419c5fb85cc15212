"""Run by test_two_ranks.py on two processes: train every method with Lightning's DDP and save its state."""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, DenseCL, MoCo, MoCoV3, SimCLR, SimSiam, VICReg
from castlit.optim import OptimizerRecipe
from support.networks import two_convolutions


def network():
    # Of few channels all may die, and all keys would be the same.
    return two_convolutions(channels=24)


METHODS = {
    "moco": lambda: MoCo(network(), dim=8, queue_size=15, momentum=0.9),
    "moco unshuffled": lambda: MoCo(network(), dim=8, queue_size=15, momentum=0.9, shuffle_bn=False),
    "simclr": lambda: SimCLR(network(), dim=8),
    "byol": lambda: BYOL(network(), dim=8, hidden=9),
    "simsiam": lambda: SimSiam(network(), dim=8, hidden=9),
    "mocov3": lambda: MoCoV3(network(), dim=8, hidden=9),
    "densecl": lambda: DenseCL(network(), dim=8, queue_size=15, momentum=0.9),
    "vicreg": lambda: VICReg(network(), dim=8, hidden=9),
}


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


def trained(name, precision, key="masked_image", **options):
    torch.manual_seed(1)
    module = CASTModule(METHODS[name](), AttentionLoss(key=key, **options), OptimizerRecipe(lr=0.05))
    before = [parameter.detach().clone() for parameter in module.parameters()]
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        precision=precision,
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(samples(24), 4))
    moved = max(float((a - b).abs().max()) for a, b in zip(module.parameters(), before, strict=True))
    weights = {key: parameter.detach() for key, parameter in module.named_parameters()}
    queue = {key: buffer for key, buffer in module.method.named_buffers() if "queue" in key}
    queue |= {key: buffer for key, buffer in module.named_buffers() if "masked_key_mean" in key}
    return {"weights": weights, "queue": queue, "steps": trainer.global_step, "moved": moved}, trainer.global_rank


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    found = {}
    for name in METHODS:
        found[name], rank = trained(name, "32-true")
    found["moco in bf16"], rank = trained("moco", "bf16-mixed")
    found["moco with masked features"], rank = trained("moco", "32-true", "masked_features")
    found["densecl with masked features"], rank = trained("densecl", "32-true", "masked_features")
    evidence = {"target": "evidence", "subtract": "masked_keys"}
    found["simclr with evidence"], rank = trained("simclr", "bf16-mixed", **evidence)
    torch.save(found, Path(sys.argv[1]) / f"rank{rank}.pt")
