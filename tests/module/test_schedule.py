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
    fit(CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), optimizer=recipe), samples, callbacks=[seen], **options)
    return seen.seen


def wanted(recipe, total, per_epoch):
    optimizer, scheduler = recipe.build([torch.nn.Parameter(torch.zeros(1))], total, per_epoch)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("options", "total", "per_epoch"),
    [
        ({"max_epochs": 3}, 9, 3),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 6, 2),
        ({"max_epochs": -1, "max_steps": 7}, 7, 3),
        ({"max_epochs": 50, "max_steps": 7}, 7, 3),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4, 2),
    ],
    ids=str,
)
def test_warmup_and_cosine(fit, make_backbone, samples, options, total, per_epoch):
    recipe = OptimizerRecipe(lr=0.1, warmup_epochs=1)
    found = rates(fit, make_backbone, samples(12), recipe, **options)
    assert found == pytest.approx(wanted(recipe, total, per_epoch))
    assert max(found) == found[per_epoch] == 0.1


def test_cosine_needs_end(fit, make_backbone, samples):
    with pytest.raises(InputError, match="max_epochs or max_steps"):
        rates(fit, make_backbone, samples(8), OptimizerRecipe(), max_epochs=-1)


class Endless(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        while True:
            yield from self.samples


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*", "ignore:.*does not have many workers.*")
def test_data_without_a_length(make_backbone, samples, tmp_path):
    seen, recipe = Rates(), OptimizerRecipe(lr=0.1)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=5,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[seen],
        default_root_dir=tmp_path,
    )
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), optimizer=recipe)
    trainer.fit(module, DataLoader(Endless(samples(8)), 4))
    assert seen.seen == pytest.approx(wanted(recipe, 5, 5))


def test_momentum_encoder_is_not_trained(fit, make_backbone, samples):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7))
    trainer = fit(module, samples(4))
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in module.encoder.parameters()}
