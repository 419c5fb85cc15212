"""Run by test_lightning_packages.py: train with the package of Lightning that the argument names; print metrics."""

import importlib
import json
import sys
import warnings

pl = importlib.import_module(sys.argv[1])

import torch  # noqa: E402 - the program imports Lightning first
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from castlit import CASTModule  # noqa: E402
from castlit.attention import AttentionLoss  # noqa: E402
from castlit.callbacks import AttentionSupervision, ExactResume, LabelLogit, LastCheckpoint  # noqa: E402
from castlit.data import ScenesDataModule  # noqa: E402
from castlit.methods import MoCo  # noqa: E402
from castlit.optim import OptimizerRecipe  # noqa: E402
from support.networks import two_convolutions  # noqa: E402


class Classifier(pl.LightningModule):
    """A user's own module."""

    def __init__(self):
        super().__init__()
        self.net = two_convolutions()
        self.head = nn.Linear(6, 10)

    def training_step(self, batch, batch_idx):
        logits = self.head(self.net(batch["image"]).mean((2, 3)))
        return nn.functional.cross_entropy(logits, batch["label"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, data, callbacks, epochs, resume=None):
    trainer = pl.Trainer(
        accelerator="cpu",
        sync_batchnorm=True,
        max_epochs=epochs,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def pretrain(epochs, resume=None):
    torch.manual_seed(1)
    data = ScenesDataModule(train_count=32, val_count=8, size=32, scene_size=36, batch_size=16, workers=0)
    method = MoCo(two_convolutions(), dim=8, queue_size=16)
    module = CASTModule(method, AttentionLoss(), OptimizerRecipe(lr=0.01, schedule="constant"))
    return fit(module, data, [LastCheckpoint("checkpoints"), ExactResume()], epochs, resume)


def supervise():
    torch.manual_seed(1)
    data = ScenesDataModule(train_count=8, val_count=16, size=32, scene_size=36, batch_size=16, workers=0)
    data.setup()
    (batch,) = data.val_dataloader()
    samples = [{name: values[i] for name, values in batch.items()} for i in range(len(batch["image"]))]
    loader = DataLoader(samples, batch_size=8)
    callback = AttentionSupervision("net", target=LabelLogit(), mask="mask", embedding="head")
    return fit(Classifier(), loader, [callback], 1)


warnings.simplefilter("ignore")
pretrain(1)
found = {"resumed": pretrain(2, "checkpoints/last.ckpt"), "supervised": supervise()}
others = {"pytorch_lightning", "lightning_fabric", "lightning.pytorch"} & set(sys.modules)
print(json.dumps({**found, "packages": sorted(others)}))
