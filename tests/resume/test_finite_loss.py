"""A loss that is not finite: when it is found, what stops, and what is written."""

import json
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from castlit.callbacks import FiniteLoss, LastCheckpoint
from castlit.data import SaliencyDataModule
from castlit.resume.finite_loss import image_name
from castlit.utils.validation import InputError


class Losing(pl.LightningModule):
    """Has the losses that it is given."""

    def __init__(self, losses):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.losses, self.checks = losses, []

    def training_step(self, batch, batch_idx):
        loss = self.weight * self.losses[self.global_step]
        return {"loss": loss, "part": loss.detach() * 2}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


class Waiting(FiniteLoss):
    """Checks as rarely as on a GPU."""

    def on_train_batch_end(self, trainer, *arguments):
        strategy = SimpleNamespace(root_device=torch.device("meta"))
        seen = SimpleNamespace(
            strategy=strategy,
            world_size=1,
            log_every_n_steps=trainer.log_every_n_steps,
            current_epoch=0,
            accumulate_grad_batches=1,
        )
        seen.global_rank, seen.datamodule = 0, None
        super().on_train_batch_end(seen, *arguments)


def fit(callback, losses, folder, **options):
    numbers = [{"index": torch.tensor(i)} for i in range(2 * len(losses))]
    module = Losing(losses)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            callbacks=[callback, LastCheckpoint(folder, every_n_train_steps=options.pop("save", 1000))],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            log_every_n_steps=4,
            **options,
        )
        trainer.fit(module, DataLoader(numbers, 2))
    return trainer


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_stops_and_names_images(tmp_path, bad):
    with pytest.raises(
        InputError, match=rf"the loss is {bad} at step 3 \(epoch 0, batch 3\): .*bad_batch.json"
    ) as error:
        fit(FiniteLoss(tmp_path / "bad_batch.json"), [1.0, 2.0, 3.0, bad, 1.0, 1.0], tmp_path)
    assert "\n" not in str(error.value)
    assert json.loads((tmp_path / "bad_batch.json").read_text()) == {
        "seed": None,
        "epoch": 0,
        "step": 3,
        "batch": 3,
        "losses": {"loss": str(bad), "part": str(bad)},
        "images": [{"index": 6}, {"index": 7}],
    }


def test_finite_losses(tmp_path):
    fit(FiniteLoss(tmp_path / "bad_batch.json"), [1.0, 1e30, -1e30], tmp_path)
    assert not (tmp_path / "bad_batch.json").exists()


@pytest.mark.parametrize("save", [1000, 3])
def test_rare_checks_name_the_right_batch(tmp_path, save):
    callback, losses = Waiting(tmp_path / "bad_batch.json"), [1.0] * 4 + [float("nan")] * 6
    with pytest.raises(InputError, match="the loss is nan at step 4 "):
        fit(callback, losses, tmp_path, save=save)
    assert json.loads((tmp_path / "bad_batch.json").read_text())["images"] == [{"index": 8}, {"index": 9}]
    if save == 3:
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


def test_image_name_is_its_file(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((8, 8, 3), np.uint8))
    data = SaliencyDataModule(tmp_path / "images", size=8)
    data.setup()
    assert image_name(data, 1) == {"index": 1, "file": str(tmp_path / "images" / "b.png")}


def test_image_name_in_shards():
    data = SimpleNamespace(train_shards=(["/x/0.tar", "/x/1.tar", "/x/2.tar"], np.array([3, 0, 4])))
    found = [image_name(data, i) for i in (0, 2, 3, 6)]
    assert [(name["shard"], name["place"]) for name in found] == [
        ("/x/0.tar", 0),
        ("/x/0.tar", 2),
        ("/x/2.tar", 0),
        ("/x/2.tar", 3),
    ]
