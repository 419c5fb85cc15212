"""The momentum over a real run: a function of the step, for all limits of the Trainer, and exact after a resume."""

import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import PointingProbe
from castlit.methods import BYOL, MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError


def watched(method):
    """Compute the momentum of each step from the weights."""
    found, plain = [], method.after_step

    def after_step(progress=0.0):
        old = torch.cat([p.double().flatten() for p in method.momentum_encoder.parameters()])
        new = torch.cat([p.detach().double().flatten() for p in method.encoder.parameters()])
        plain(progress)
        now = torch.cat([p.double().flatten() for p in method.momentum_encoder.parameters()])
        found.append(float(((now - new) @ (old - new)) / ((old - new) @ (old - new))))

    method.after_step = after_step
    return found


def cosine(momentum, total):
    return [1 - (1 - momentum) * (math.cos(math.pi * k / total) + 1) / 2 for k in range(total)]


@pytest.mark.filterwarnings("ignore:.*the hooks will not be called on every batch.*")
@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"max_epochs": 3}, 9),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 6),
        ({"max_epochs": -1, "max_steps": 7}, 7),
        ({"max_epochs": 50, "max_steps": 7}, 7),
        ({"max_epochs": 3, "accumulate": {1: 2, 2: 3}}, 6),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [MoCo, BYOL])
def test_momentum_over_run(fit, make_backbone, samples, kind, options, total):
    sizes = {"dim": 4, "queue_size": 7} if kind is MoCo else {"dim": 4, "hidden": 6}
    options = dict(options)
    if "accumulate" in options:
        options["callbacks"] = [pl.callbacks.GradientAccumulationScheduler(options.pop("accumulate"))]
    for schedule, wanted in (("cosine", cosine(0.5, total)), ("constant", [0.5] * total)):
        method = kind(make_backbone(), momentum=0.5, momentum_schedule=schedule, **sizes)
        with torch.no_grad():
            for parameter in method.momentum_encoder.parameters():
                parameter.add_(torch.randn_like(parameter))
        found = watched(method)
        fit(CASTModule(method, optimizer=OptimizerRecipe(lr=0.1)), samples(12), **options)
        assert found == pytest.approx(wanted, abs=1e-4)


class StopAfterTwoEpochs(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == 1


def test_resumed_run_has_same_momentum(fit, make_backbone, samples, tmp_path):
    made = samples(12)

    def module():
        torch.manual_seed(5)
        method = BYOL(make_backbone(), dim=4, hidden=6, momentum=0.5, momentum_schedule="cosine")
        return CASTModule(method, AttentionLoss(), OptimizerRecipe(lr=0.1))

    whole, first, second = module(), module(), module()
    fit(whole, made, max_epochs=4)
    # Interrupted, not shorter: the run has the same number of steps.
    fit(first, made, max_epochs=4, callbacks=[StopAfterTwoEpochs()]).save_checkpoint(tmp_path / "last.ckpt")
    found = watched(second.method)
    trainer = fit(second, made, max_epochs=4, ckpt_path=tmp_path / "last.ckpt")
    assert trainer.global_step == 12
    assert found == pytest.approx(cosine(0.5, 12)[6:], abs=1e-4)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_checkpoint_restores_schedule(fit, samples, tmp_path):
    method = MoCo("tiny_resnet", dim=4, queue_size=7, momentum=0.7, momentum_schedule="cosine")
    fit(CASTModule(method), samples(4, (32, 32))).save_checkpoint(tmp_path / "last.ckpt")
    again = CASTModule.load_from_checkpoint(tmp_path / "last.ckpt").method
    assert (again.momentum, again.momentum_schedule) == (0.7, "cosine")


class Plain(MoCo):
    """A method without the argument progress."""

    calls = 0

    def after_step(self):
        self.calls += 1


class Keyword(MoCo):
    def after_step(self, *, progress):
        self.seen = [*getattr(self, "seen", []), progress]


class Demanding(MoCo):
    def after_step(self, step):
        pass


def test_custom_after_step_signatures(fit, make_backbone, samples):
    plain, keyword = (kind(make_backbone(), dim=4, queue_size=7) for kind in (Plain, Keyword))
    for method in (plain, keyword):
        fit(CASTModule(method), samples(12))
    assert plain.calls == 3
    assert keyword.seen == pytest.approx([0, 1 / 3, 2 / 3])
    with pytest.raises(InputError, match=r"Demanding.after_step requires 'step': castlit passes only `progress`"):
        CASTModule(Demanding(make_backbone(), dim=4, queue_size=7))


@pytest.mark.parametrize("kind", [MoCo, BYOL])
def test_misspelt_schedule(kind):
    with pytest.raises(InputError, match=r"momentum_schedule must be one of .*did you mean 'cosine'"):
        kind(nn.Conv2d(3, 4, 1), momentum_schedule="cosin")


class Manual(CASTModule):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx)["loss"])
        optimizer.step()


class OwnStep(CASTModule):
    """As Lightning's documentation overrides it, for a warm-up of one's own; and other hooks, without super."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)

    def on_train_start(self):
        pass


@pytest.mark.parametrize("module", [Manual, OwnStep])
@pytest.mark.parametrize("fits", [1, 2])
def test_average_follows_the_optimiser(fit, make_backbone, samples, module, fits):
    """It moves after each step, whoever takes it, also in a second fit."""
    method = BYOL(make_backbone(), dim=4, hidden=6, momentum=0.5, momentum_schedule="cosine")
    found = watched(method)
    for _ in range(fits):
        fit(module(method, None, OptimizerRecipe(lr=0.1)), samples(12))
    assert found == pytest.approx(cosine(0.5, 3) * fits, abs=1e-4)


class TwoOptimizers(CASTModule):
    """The head has an optimiser of its own; both step for each batch, or the second one for every second batch."""

    def __init__(self, method, every):
        super().__init__(method)
        self.automatic_optimization, self.every = False, every

    def configure_optimizers(self):
        parts = self.encoder.backbone, self.encoder.head
        return [torch.optim.SGD(part.parameters(), 0.1) for part in parts]

    def training_step(self, batch, batch_idx):
        loss = self.losses(batch)["loss"]
        self.manual_backward(loss)
        for number, optimizer in enumerate(self.optimizers()):
            if (batch_idx + 1) % self.every[number] == 0:
                optimizer.step()
                optimizer.zero_grad()


@pytest.mark.parametrize(
    ("every", "limit", "expected"),
    [
        ((1, 1), {"max_epochs": 2}, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),
        ((3, 3), {"max_epochs": 2}, [2 / 6, 5 / 6]),
        # Lightning counts the steps of both.
        ((1, 1), {"max_epochs": -1, "max_steps": 8}, [1 / 8, 3 / 8, 5 / 8, 7 / 8]),
    ],
)
def test_two_optimizers(fit, make_backbone, samples, every, limit, expected):
    method = Keyword(make_backbone(), dim=4, queue_size=7)
    fit(TwoOptimizers(method, every), samples(12), **limit)
    assert method.seen == pytest.approx(expected)


def test_unfreeze_leaves_the_momentum_encoder(make_backbone):
    module = CASTModule(BYOL(make_backbone(), dim=4, hidden=6))
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    module.freeze()
    module.unfreeze()
    assert [name for name, parameter in module.named_parameters() if parameter.requires_grad] == trained
    assert module.training


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_several_validation_loaders(make_backbone, samples):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss())
    rows = [{"image": row["query"], "mask": row["query_mask"]} for row in samples(4)]
    unmasked = [{**row, "mask": row["mask"] * 0} for row in rows]
    found = {}
    for loaders in ([rows], [rows, unmasked]):
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[PointingProbe()])
        (metrics, *_) = trainer.validate(module, [torch.utils.data.DataLoader(each, 2) for each in loaders])
        found[len(loaders)] = metrics["val/pointing"]
    assert found[1] == found[2], "of the first loader"
