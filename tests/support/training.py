"""Fixtures: a network small enough to check by hand, data to train it on, and a real Trainer."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from support.networks import two_convolutions


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_backbone():
    """Makes ``two_convolutions``."""
    return two_convolutions


@pytest.fixture
def samples():
    """Training samples, of which every fifth has an empty query mask."""

    def make(count=12, size=(12, 16)):
        made = []
        for number in range(count):
            query_mask = (torch.rand(1, *size) > 0.6).byte()
            if number % 5 == 4:
                query_mask.zero_()
            made.append(
                {
                    "query": torch.randn(3, *size),
                    "key": torch.randn(3, *size),
                    "query_mask": query_mask,
                    "key_mask": (torch.rand(1, *size) > 0.4).byte(),
                }
            )
        return made

    return make


@pytest.fixture
def fit(tmp_path):
    """Train a module with a real Trainer on the CPU; returns the Trainer."""

    def run(module, samples, batch_size=4, ckpt_path=None, validation=None, accelerator="cpu", **options):
        torch.manual_seed(1)
        loader = DataLoader(samples, batch_size, drop_last=True)
        settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "log_every_n_steps": 1, **options}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=tmp_path,
                **settings,
            )
            trainer.fit(module, loader, validation and DataLoader(validation, batch_size), ckpt_path=ckpt_path)
        return trainer

    return run
