"""CASTModule without a Trainer of its own: inside another module, under Fabric, LightningCLI and lr_find."""

import copy
import sys

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError


def module(**options):
    torch.manual_seed(0)
    method = MoCo("tiny_resnet", dim=8, queue_size=16, momentum=0.9, **options)
    return CASTModule(method, AttentionLoss("layer4"), OptimizerRecipe(lr=0.05, schedule="constant"))


class Parent(pl.LightningModule):
    """A module that has a CASTModule as a part, as docs/other_loops.md shows it."""

    def __init__(self, part):
        super().__init__()
        self.cast = part

    def setup(self, stage):
        self.cast.setup(stage)

    def on_fit_start(self):
        self.cast.on_fit_start()

    def training_step(self, batch, batch_idx):
        losses = self.cast.losses(batch)
        self.log_dict({f"mine/{name}": value.detach() for name, value in losses.items()})
        return losses["loss"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


@pytest.fixture
def made(samples):
    return samples(8, (32, 32))


def equal(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert set(first) == set(second)
    for name, value in second.items():
        assert torch.equal(first[name], value), name


def test_part_in_a_list(fit, made):
    """Lightning hands its trainer to direct parts only; the docs say how the others get it."""

    class Listed(Parent):
        def __init__(self, part, hands_over):
            super().__init__(part)
            del self.cast
            self.parts, self.hands_over = torch.nn.ModuleList([part]), hands_over

        def setup(self, stage):
            self.cast = self.parts[0]
            if self.hands_over:
                self.cast.trainer = self.trainer
            super().setup(stage)

    with pytest.raises(InputError, match=r"CASTModule has no Trainer: .* set part.trainer = self.trainer before"):
        fit(Listed(module(), False), made, max_epochs=1)
    direct, listed = module(), module()
    fit(Parent(direct), made, max_epochs=1)
    fit(Listed(listed, True), made, max_epochs=1)
    equal(listed, direct)


def test_part_of_another_module_trains_alike(fit, made):
    alone, inside = module(), module()
    fit(alone, made, max_epochs=1)
    parent = Parent(inside)
    trainer = fit(parent, made, max_epochs=1)
    assert "mine/attention" in trainer.callback_metrics
    equal(inside, alone)


def test_training_step_of_a_part_is_refused(fit, made):
    class Wrong(Parent):
        def training_step(self, batch, batch_idx):
            return self.cast.training_step(batch, batch_idx)

    with pytest.raises(InputError, match=r"^CASTModule is a part of Wrong: call its losses\(batch\)"):
        fit(Wrong(module()), made, max_epochs=1)


def test_several_processes_need_setup(made, monkeypatch):
    monkeypatch.setattr("castlit.module.ranks.world_size", lambda: 2)
    with pytest.raises(InputError, match=r"^CASTModule trains on several processes only under a Trainer"):
        module().losses(next(iter(torch.utils.data.DataLoader(made, 4))))


def test_fabric_trains_alike(fit, made):
    alone, under = module(), module()
    fit(alone, made, max_epochs=1)
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = torch.optim.SGD(under.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    wrapped, optimizer = fabric.setup(under, optimizer)
    wrapped.mark_forward_method("losses")
    wrapped.train()
    for batch in fabric.setup_dataloaders(torch.utils.data.DataLoader(made, 4)):
        losses = wrapped.losses(batch)
        fabric.backward(losses["loss"])
        optimizer.step()
        optimizer.zero_grad()
        under.after_step()
    equal(under, alone)
    with pytest.raises(InputError, match=r"^there is no Trainer, .*: call losses\(batch\)"):
        under.training_step(batch, 0)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("callbacks", [[], [ExactResume()]], ids=["plain", "as castlit.train"])
def test_lr_find(fit, made, tmp_path, callbacks):
    from pytorch_lightning.tuner import Tuner

    trained = module()
    before = copy.deepcopy(trained.state_dict())
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=4,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        callbacks=callbacks,
    )
    found = Tuner(trainer).lr_find(
        trained, torch.utils.data.DataLoader(made, 4), num_training=5, early_stop_threshold=None
    )
    assert len(found.results["lr"]) == 5
    trained.lr = 0.125
    assert (trained.optimizer.lr, trained.hparams["optimizer"]["lr"]) == (0.125, 0.125)
    assert trained.optimizer.schedule == "constant", "the other settings stay"
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(InputError, match=r"^optimizer\.lr"):
        trained.lr = -1.0
    trainer.fit(trained, torch.utils.data.DataLoader(made, 4))
    assert (trainer.current_epoch, trainer.global_step) == (4, 8), "the fit starts where it should"


@pytest.mark.filterwarnings("ignore:No seed found")
def test_lightning_cli(tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse")
    from pytorch_lightning.cli import LightningCLI

    from castlit.data import ScenesDataModule

    monkeypatch.chdir(tmp_path)
    words = [
        *("fit", "--model.method=castlit.methods.MoCo", "--model.method.backbone=tiny_resnet"),
        *("--model.method.queue_size=16", "--model.attention=castlit.attention.AttentionLoss"),
        *("--model.attention.layer=layer4", "--model.attention.weight=2", "--model.optimizer.lr=0.01"),
        *("--data.train_count=16", "--data.val_count=8", "--data.size=32", "--data.scene_size=36"),
        *("--data.batch_size=8", "--data.workers=0", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
        *("--trainer.logger=false", "--trainer.enable_progress_bar=false"),
    ]
    monkeypatch.setattr(sys, "argv", ["cli.py", *words])
    cli = LightningCLI(CASTModule, ScenesDataModule)
    assert cli.trainer.global_step == 2
    assert cli.model.attention.weight == 2.0
    loaded = CASTModule.load_from_checkpoint(cli.trainer.checkpoint_callback.best_model_path)
    equal(loaded, cli.model)
