"""A run that is interrupted anywhere and resumed equals an uninterrupted one, bit for bit: weights, draws and log."""

import functools
import os
import random
import signal
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume, LastCheckpoint, MetricsCSV, RunRecord
from castlit.data import ScenesDataModule
from castlit.methods import BYOL, MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.signals import Stopped
from support.cuts import CutPower, KeepDisk, PowerCut

BATCHES, EPOCHS = 5, 3


class Noisy(CASTModule):
    """Draws from every global generator, in every step and in validation."""

    def training_step(self, batch, batch_idx):
        noise = torch.randn(()) + np.random.randn() + random.gauss(0, 1)  # noqa: NPY002
        return super().training_step({**batch, "query": batch["query"] * (1 + 0.1 * noise)}, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.log("val/draw", torch.rand(()) + random.random())
        return super().validation_step(batch, batch_idx)


class Noted(pl.Callback):
    """Notes a run's final state."""

    def on_fit_end(self, trainer, pl_module):
        self.rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.weights = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        self.momenta = trainer.optimizers[0].state_dict()["state"]
        self.draws = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: NPY002
        self.steps, self.epochs = trainer.global_step, trainer.current_epoch


def run(
    folder,
    make_backbone,
    method="moco",
    extra=(),
    resume=False,
    workers=0,
    recipe=None,
    last="last.ckpt",
    every_n_train_steps=1,
    **options,
):
    pl.seed_everything(3, verbose=False)
    data = ScenesDataModule(
        train_count=22, val_count=6, size=16, scene_size=24, batch_size=4, workers=workers, min_coverage=0.2
    )
    if method == "moco":
        network = MoCo(make_backbone(), dim=4, queue_size=17, momentum=0.9)
    else:
        network = BYOL(make_backbone(), dim=4, hidden=6, momentum=0.9, momentum_schedule="cosine")
    recipe = OptimizerRecipe(lr=0.1, warmup_epochs=1, **(recipe or {}))
    module = Noisy(network, AttentionLoss(), recipe)
    logger, noted, record = MetricsCSV(folder, name="", version=""), Noted(), RunRecord(folder / "summary.json")
    start = folder / last if resume and (folder / last).is_file() else None
    if start is not None:
        logger.keep(torch.load(start, weights_only=True)["castlit"]["rows"])
    keeper = LastCheckpoint(folder, every_n_train_steps=every_n_train_steps)
    settings = {"max_epochs": EPOCHS, "check_val_every_n_epoch": 2, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=logger,
            callbacks=[record, *extra, ExactResume(), keeper, noted],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=2,
            default_root_dir=folder,
            **settings,
        )
        trainer.fit(module, data, ckpt_path=start, weights_only=True)
    noted.metrics = {name: (change.start, change.end) for name, change in record.metrics.items()}
    noted.images = record._seen_images
    return noted


def assert_same(found, wanted, folder, other):
    assert (found.steps, found.epochs, found.rates) == (wanted.steps, wanted.epochs, wanted.rates)
    for name, tensor in wanted.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    for key, state in wanted.momenta.items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(found.momenta[key][name]), torch.as_tensor(value)), (key, name)
    assert found.draws == wanted.draws
    assert (folder / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    assert found.metrics == wanted.metrics
    assert found.images == wanted.images


KINDS = {
    "validation each second epoch": {},
    "validation within the epoch": {"val_check_interval": 2, "check_val_every_n_epoch": 1},
    "validation by steps alone": {"val_check_interval": 3, "check_val_every_n_epoch": None},
    "gradients of two batches": {"accumulate_grad_batches": 2, "check_val_every_n_epoch": 1},
    "until a step": {"max_epochs": -1, "max_steps": 12},
    "part of the data": {"limit_train_batches": 3, "check_val_every_n_epoch": 1},
}
PLACES = [
    ("on_train_batch_start", 1),
    ("on_train_batch_start", 4),
    ("on_train_batch_end", 5),
    ("on_before_optimizer_step", 6),
    ("on_validation_batch_end", 2),
    ("on_train_epoch_end", 2),
]


@pytest.fixture(scope="module")
def uninterrupted(make_backbone, tmp_path_factory):
    """Gives, for a kind, the final state of an uninterrupted run, its folder, and what it was at each place."""

    @functools.cache
    def get(kind):
        top = tmp_path_factory.mktemp("uninterrupted")
        folder, copies = top / "run", {place: top / "{}{}".format(*place) for place in PLACES}
        extra = [KeepDisk(folder, copy, *place) for place, copy in copies.items()]
        return run(folder, make_backbone, extra=extra, **KINDS[kind]), folder, copies

    return get


@pytest.mark.parametrize("kind", list(KINDS))
def test_interrupted_anywhere(uninterrupted, make_backbone, kind):
    wanted, whole, copies = uninterrupted(kind)
    for folder in copies.values():
        found = run(folder, make_backbone, resume=True, **KINDS[kind])
        assert_same(found, wanted, folder, whole)


def test_interrupted_twice_with_loader_processes(make_backbone, tmp_path):
    options = {"method": "byol", "workers": 2, "recipe": {"name": "adamw"}}
    wanted = run(tmp_path / "uninterrupted", make_backbone, **options)
    for resume, hook, count in ((False, "on_train_batch_start", 4), (True, "on_train_batch_end", 6)):
        with pytest.raises(PowerCut):
            run(tmp_path / "interrupted", make_backbone, extra=[CutPower(hook, count)], resume=resume, **options)
    found = run(tmp_path / "interrupted", make_backbone, resume=True, **options)
    assert_same(found, wanted, tmp_path / "interrupted", tmp_path / "uninterrupted")


class Signal(pl.Callback):
    """Sends this process a signal in a hook, the ``count``-th time it is called."""

    def __init__(self, number, hook, count):
        self.number, self.left = number, count
        setattr(self, hook, self._send)

    def _send(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("kind", ["validation each second epoch", "validation within the epoch"])
@pytest.mark.parametrize(
    ("number", "hook", "count", "steps"),
    [
        (signal.SIGTERM, "on_before_zero_grad", 3, 3),
        (signal.SIGINT, "on_train_batch_start", 5, 4),
        (signal.SIGTERM, "on_validation_batch_start", 2, None),
        (signal.SIGTERM, "on_train_epoch_end", 1, 5),
        (signal.SIGTERM, "on_train_epoch_start", 3, 10),
    ],
)
def test_signals_stop_after_the_step(uninterrupted, make_backbone, tmp_path, kind, number, hook, count, steps):
    options = {**KINDS[kind], "every_n_train_steps": None}
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    wanted, whole, _ = uninterrupted(kind)
    with pytest.raises(Stopped) as stop:
        run(tmp_path / "stopped", make_backbone, extra=[Signal(number, hook, count)], **options)
    assert stop.value.code == 128 + number
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    saved = torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)
    if steps is None:
        assert saved["castlit"]["place"] == "validation"
    else:
        assert saved["global_step"] == steps
    found = run(tmp_path / "stopped", make_backbone, resume=True, **options)
    assert_same(found, wanted, tmp_path / "stopped", whole)


class StopEarly(pl.Callback):
    """As ``trainer.max_time`` does."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == 8


def test_early_stop_within_epoch(uninterrupted, make_backbone, tmp_path):
    wanted, _, _ = uninterrupted("validation each second epoch")
    assert run(tmp_path / "cut", make_backbone, extra=[StopEarly()]).steps == 8
    found = run(tmp_path / "cut", make_backbone, resume=True)
    assert (found.steps, found.epochs, found.images) == (wanted.steps, wanted.epochs, wanted.images)
    # Not the draws: an early stop is validated, and the validation draws here. Nor the weights, which noise reaches.
    assert found.rates == wanted.rates


@pytest.mark.parametrize("kind", ["validation each second epoch", "validation within the epoch"])
@pytest.mark.parametrize("saved", ["after each step", "after each validation"])
def test_lightning_checkpoints(uninterrupted, make_backbone, tmp_path, kind, saved):
    interval = {"every_n_train_steps": 1} if saved == "after each step" else {"every_n_epochs": 1}

    def keep(folder):
        return ModelCheckpoint(folder, filename="own", save_top_k=1, enable_version_counter=False, **interval)

    def resume_run(resume, *more):
        extra = [keep(tmp_path / "interrupted"), *more]
        return run(tmp_path / "interrupted", make_backbone, extra=extra, resume=resume, last="own.ckpt", **KINDS[kind])

    wanted, whole, _ = uninterrupted(kind)
    for resume, count in ((False, 6), (True, 5), (True, 4)) if saved == "after each step" else ((False, 12),):
        with pytest.raises(PowerCut):
            resume_run(resume, CutPower("on_train_batch_start", count))
    found = resume_run(True)
    if saved == "after each step":
        # That step's row is not logged yet when Lightning saves, and would be lost; everything else is there.
        rows = (tmp_path / "interrupted" / "metrics.csv").read_text()
        assert set(rows.splitlines()) <= set((whole / "metrics.csv").read_text().splitlines())
        whole = tmp_path
        (whole / "metrics.csv").write_text(rows)
    assert_same(found, wanted, tmp_path / "interrupted", whole)
