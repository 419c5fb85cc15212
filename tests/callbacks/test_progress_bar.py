"""The progress bar: how often it reads metrics, what it shows, and what Lightning's own bars still get."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ProgressBar, progress_bar
from castlit.methods import MoCo
from castlit.utils.validation import InputError
from support.networks import two_convolutions

STEPS = 8


class Watched(ProgressBar):
    """Notes after each step what it shows, and the time that is left."""

    def __init__(self, **options):
        super().__init__(**options)
        self.updates, self.left = [], []

    def get_metrics(self, trainer, pl_module):
        found = super().get_metrics(trainer, pl_module)
        self.updates.append((trainer.global_step, found.get("train/loss")))
        return found

    def on_train_batch_end(self, trainer, *arguments):
        super().on_train_batch_end(trainer, *arguments)
        self.left.append(self.run_left)


class Losses(pl.Callback):
    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found.append(outputs["loss"].item())


def samples(count):
    torch.manual_seed(0)
    images, masks = torch.randn(2, count, 3, 12, 16), (torch.rand(2, count, 1, 12, 16) > 0.5).byte()
    names = ("query", "key", "query_mask", "key_mask")
    return [dict(zip(names, each, strict=True)) for each in zip(*images, *masks, strict=True)]


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train for two epochs of eight steps, of which each takes ``seconds`` by the bar's clock."""

    def run(bar, seconds=0.1, terminal=True, **options):
        for name, value in {"FORCE_COLOR": "1" if terminal else "", "TERM": "xterm"}.items():
            monkeypatch.setenv(name, value)
        clock = iter(seconds * step for step in range(10**6))
        monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(clock))
        losses = Losses()
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=2,
            callbacks=[bar, losses],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **options,
        )
        module = CASTModule(MoCo(two_convolutions(), dim=4, queue_size=7), AttentionLoss())
        trainer.fit(module, DataLoader(samples(2 * STEPS), 2))
        monkeypatch.undo()
        return trainer, losses.found

    return run


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


def test_shows_the_losses(train):
    bar = Watched(refresh_rate=10)
    trainer, losses = train(bar, seconds=1.0)
    steps = dict(bar.updates)
    assert steps == {step: pytest.approx(loss) for step, loss in enumerate(losses, 1)}
    assert trainer.progress_bar_metrics == {}, "Lightning reads none"
    shown = bar.get_metrics(trainer, trainer.lightning_module)
    assert {"train/loss", "train/contrastive", "train/attention", "train/pointing"} == set(shown)


def test_reads_at_intervals(train):
    bar = Watched(refresh_rate=2)  # every five steps or more, by a clock that is read more than once in some
    train(bar)
    during = [step for step, _ in bar.updates]
    assert len(during) <= 8
    assert {STEPS, 2 * STEPS} <= set(during), "and at the end of an epoch"


def test_waits_for_logged_steps_on_a_gpu(train, monkeypatch):
    class Elsewhere(Watched):
        def on_train_batch_end(self, trainer, *arguments):
            with monkeypatch.context() as patch:
                patch.setattr(type(trainer.strategy), "root_device", torch.device("cuda"))
                super().on_train_batch_end(trainer, *arguments)

    bar = Elsewhere(refresh_rate=10)
    _, losses = train(bar, seconds=1.0, log_every_n_steps=3)
    first = bar.updates[:STEPS]
    # After steps 3 and 6; the last update is that of the epoch's end.
    shown = [None, None, losses[2], losses[2], losses[2], losses[5], losses[5], losses[5]]
    assert [loss for _, loss in first] == [None if loss is None else pytest.approx(loss) for loss in shown]


def test_time_left_of_the_run(train):
    bar = Watched(refresh_rate=10)
    train(bar, seconds=1.0)
    left = [value for value in bar.left if value is not None]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    # The clock is read two or three times a step: 14 steps are left after the second one.
    assert 2 * 14 <= left[0] <= 3 * 14


def test_epochs_are_counted_from_one(train):
    """``Epoch 1 of 2``, also where the steps end the run."""

    class Named(Watched):
        def on_train_epoch_start(self, trainer, pl_module):
            super().on_train_epoch_start(trainer, pl_module)
            names.append(self.progress.tasks[self.train_progress_bar_id].description.strip())

    names = []
    train(Named())
    train(Named(), max_steps=3 * STEPS // 2)
    assert names == 2 * ["Epoch 1 of 2", "Epoch 2 of 2"]
    names.clear()
    train(Named(), max_steps=STEPS - 1)
    assert names == ["Epoch 1 of 1"]


def test_shows_nothing_in_a_file(train, capsys):
    bar = Watched()
    train(bar, terminal=False)
    assert (bar.updates, bar.run_left) == ([], None)
    assert capsys.readouterr().out == ""


def test_other_bars_get_metrics(train):
    trainer, losses = train(TQDMProgressBar())
    assert trainer.progress_bar_metrics["train/loss"] == pytest.approx(losses[-1])


def test_disabled_on_other_ranks(train):
    bar = Watched()
    bar.disable()  # as Lightning does on all ranks but the first
    trainer, _ = train(bar)
    images = [{"image": sample["query"], "mask": sample["query_mask"]} for sample in samples(4)]
    trainer.validate(trainer.lightning_module, DataLoader(images, 2), verbose=False)
    assert bar.updates == []
    assert bar.run_left is None


def test_refresh_rate_is_checked():
    with pytest.raises(InputError, match=r"callbacks\.progress\.refresh_rate must be"):
        ProgressBar(refresh_rate=11)
