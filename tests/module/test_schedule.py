"""The learning rate over a real run: steps, warm-up in epochs, for all limits of the Trainer."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from castlit import CASTModule
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError


class Rates(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def rates(fit, make_backbone, samples, recipe, **options):
    seen = Rates()
    callbacks = [seen, *options.pop("callbacks", [])]
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), optimizer=recipe)
    fit(module, samples, callbacks=callbacks, **options)
    return seen.seen


def wanted(recipe, total, per_epoch):
    optimizer, scheduler = recipe.build([torch.nn.Parameter(torch.zeros(1))], total, per_epoch)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.filterwarnings("ignore:.*the hooks will not be called on every batch.*")
@pytest.mark.parametrize(
    ("options", "total", "per_epoch"),
    [
        ({"max_epochs": 3}, 9, 3),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 6, 2),
        ({"max_epochs": -1, "max_steps": 7}, 7, 3),
        ({"max_epochs": 50, "max_steps": 7}, 7, 3),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4, 2),
        ({"max_epochs": 3, "accumulate": {1: 2, 2: 3}}, 6, 3),
        ({"max_epochs": 3, "accumulate": {0: 2, 1: 1}}, 8, 2),
        ({"max_epochs": 9, "max_steps": 4, "accumulate": {0: 3, 2: 1}}, 4, 1),
    ],
    ids=str,
)
def test_warmup_and_cosine(fit, make_backbone, samples, options, total, per_epoch):
    recipe = OptimizerRecipe(lr=0.1, warmup_epochs=1)
    options = dict(options)
    if "accumulate" in options:
        options["callbacks"] = [pl.callbacks.GradientAccumulationScheduler(options.pop("accumulate"))]
    found = rates(fit, make_backbone, samples(12), recipe, **options)
    assert found == pytest.approx(wanted(recipe, total, per_epoch))
    assert max(found) == found[per_epoch] == 0.1


class StopAfterFourSteps(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 4


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*", "ignore:.*does not have many workers.*")
@pytest.mark.parametrize(
    ("recipe", "momentum", "endless", "options", "words"),
    [
        (
            {},
            "constant",
            False,
            {"max_epochs": -1},
            "schedule=cosine needs an end: give the trainer max_epochs or max_",
        ),
        ({}, "constant", True, {"max_epochs": 3}, "and the data have no length: give the trainer max_steps"),
        (
            {"schedule": "constant"},
            "cosine",
            False,
            {"max_epochs": -1},
            "method.momentum_schedule=cosine needs an end: g",
        ),
        (
            {"schedule": "constant", "warmup_epochs": 1},
            "constant",
            True,
            {"max_epochs": 2},
            "optimizer.warmup_epochs needs an end, and",
        ),
        (
            {"warmup_epochs": 2},
            "constant",
            True,
            {"max_steps": 7},
            "optimizer.warmup_epochs=2: the data have no length",
        ),
    ],
    ids=["no end", "no length", "momentum", "warm-up", "whole epochs"],
)
def test_what_needs_an_end(make_backbone, samples, tmp_path, recipe, momentum, endless, options, words):
    method = MoCo(make_backbone(), dim=4, queue_size=7, momentum_schedule=momentum)
    trainer = quiet_trainer(tmp_path, **options)
    data = Endless(samples(8)) if endless else samples(8)
    with pytest.raises(InputError, match=words):
        trainer.fit(CASTModule(method, optimizer=OptimizerRecipe(**recipe)), DataLoader(data, 4))


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*", "ignore:.*does not have many workers.*")
@pytest.mark.parametrize("endless", [False, True])
def test_constant_rate_needs_no_end(make_backbone, samples, tmp_path, endless):
    seen = Rates()
    trainer = quiet_trainer(tmp_path, max_epochs=-1, callbacks=[seen, StopAfterFourSteps()])
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), optimizer=OptimizerRecipe(schedule="constant"))
    trainer.fit(module, DataLoader(Endless(samples(8)) if endless else samples(8), 4))
    assert seen.seen == [0.03] * 4


def test_no_batches_need_no_end(fit, make_backbone, samples):
    assert rates(fit, make_backbone, samples(8), OptimizerRecipe(), max_epochs=2, limit_train_batches=0) == []


def quiet_trainer(folder, **options):
    return pl.Trainer(
        accelerator="cpu",
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


class Endless(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        while True:
            yield from self.samples


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*", "ignore:.*does not have many workers.*")
def test_data_without_a_length(make_backbone, samples, tmp_path):
    seen, recipe = Rates(), OptimizerRecipe(lr=0.1)
    trainer = quiet_trainer(tmp_path, max_steps=5, callbacks=[seen])
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), optimizer=recipe)
    trainer.fit(module, DataLoader(Endless(samples(8)), 4))
    assert seen.seen == pytest.approx(wanted(recipe, 5, 5))


def test_momentum_encoder_is_not_trained(fit, make_backbone, samples):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7))
    trainer = fit(module, samples(4))
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in module.encoder.parameters()}
