"""The lines of progress: when they come, what they say, and where they go."""

import logging
import re
import time

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import AttentionSupervision, LabelLogit, ProgressBar, RunLog
from castlit.callbacks.run_log import count_images
from castlit.methods import MoCo
from castlit.utils.validation import InputError
from support.networks import two_convolutions

STEPS = 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


class Slow(pl.Callback):
    """Lets each training step and each validation batch take some seconds by the clock, and notes the losses."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.losses = clock, seconds, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.clock[0] += self.seconds
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)

    def on_validation_batch_start(self, *arguments):
        self.clock[0] += self.seconds


class Classifier(pl.LightningModule):
    """Of somebody else: it logs nothing, and its loss is all it returns."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = two_convolutions(), torch.nn.Linear(6, 2)

    def training_step(self, batch, batch_idx):
        images, labels, _ = batch
        return F.cross_entropy(self.head(self.backbone(images).mean((2, 3))), labels)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class TwoOptimizers(Classifier):
    """Steps on its own: two optimisers, each of which trains a part."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return loss

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.backbone, self.head)]


def views(count=2 * STEPS):
    torch.manual_seed(0)
    images, masks = torch.randn(2, count, 3, 12, 16), (torch.rand(2, count, 1, 12, 16) > 0.5).byte()
    names = ("query", "key", "query_mask", "key_mask")
    return DataLoader([dict(zip(names, each, strict=True)) for each in zip(*images, *masks, strict=True)], 2)


def labelled(count=2 * STEPS):
    torch.manual_seed(0)
    images, masks = torch.randn(count, 3, 12, 16), (torch.rand(count, 1, 12, 16) > 0.5).byte()
    return DataLoader([(images[i], i % 2, masks[i]) for i in range(count)], 2)


def cast():
    return CASTModule(MoCo(two_convolutions(), dim=4, queue_size=7), AttentionLoss())


@pytest.fixture
def run(tmp_path, monkeypatch, caplog):
    """Fit and return the lines and the losses; a step takes ``seconds``."""
    caplog.set_level(logging.INFO, "castlit")
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def fit(module, loader, seconds, *callbacks, validate=None, **options):
        slow = Slow(clock, seconds)
        trainer = pl.Trainer(
            accelerator="cpu",
            callbacks=[slow, *callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
            num_sanity_val_steps=0,
            default_root_dir=tmp_path,
            **{"max_epochs": 2, **options},
        )
        trainer.fit(module, loader, validate)
        if validate is not None:
            trainer.validate(module, validate, verbose=False)
        return [(each.levelname, each.getMessage()) for each in caplog.records if "castlit" in each.name], slow.losses

    return fit


def test_two_optimizers(run):
    """Lightning counts the steps of both."""
    lines, _ = run(TwoOptimizers(), labelled(), 1.0, RunLog())
    first, expected, last = [line for level, line in lines if level == "INFO"]
    assert first.startswith("Epoch 1 of 2, step 8 of 16: loss "), first
    assert first.endswith("; 2.0 images/s, 0:00:08 left")
    assert expected == "Expected time: 0:00:16 for 16 steps"
    assert last.startswith("Epoch 2 of 2, step 16 of 16: loss "), last


def test_epochs(run):
    lines, losses = run(cast(), views(), 1.0, RunLog())
    first, expected, last = [line for level, line in lines if level == "INFO"]
    mean = sum(losses[:STEPS]) / STEPS
    assert re.fullmatch(
        rf"Epoch 1 of 2, step 8 of 16: train/loss {mean:.3f}, train/contrastive \d\.\d{{3}}, "
        r"train/attention \d\.\d{3}, train/pointing \d\.\d{3}; 2\.0 images/s, 0:00:08 left",
        first,
    )
    assert expected == "Expected time: 0:00:16 for 16 steps"
    assert last.startswith(f"Epoch 2 of 2, step 16 of 16: train/loss {sum(losses[STEPS:]) / STEPS:.3f}, ")
    assert last.endswith("; 2.0 images/s, 0:00:00 left")


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"max_epochs": 1, "max_steps": 6}, ["Epoch 1 of 1, step 6 of 6: "]),
        ({"max_epochs": -1, "max_steps": 9}, ["Epoch 1 of 2, step 8 of 9: ", "Epoch 2 of 2, step 9 of 9: "]),
        ({"max_epochs": 1, "accumulate_grad_batches": 4}, ["Epoch 1 of 1, step 2 of 2: "]),
    ],
    ids=str,
)
def test_lengths(run, options, starts):
    lines, losses = run(cast(), views(), 0.1, RunLog(), **options)
    assert [line[: line.index("train/")] for _, line in lines] == starts
    assert f"train/loss {sum(losses[:STEPS]) / len(losses[:STEPS]):.3f}" in lines[0][1]


def test_at_least_every_ten_minutes(run):
    """Also within long epochs and validations; and a run of days gets a warning."""
    lines, _ = run(Classifier(), labelled(), 6 * 3600.0, RunLog(advice="lower it"), validate=labelled(4))
    found = [line.partition(":")[0].partition(", step")[0] for _, line in lines]
    # The time is known after the second step.
    assert found == [
        "Epoch 1 of 2",
        "Expected time",
        "this run will take 3 days, 12",
        *["Epoch 1 of 2"] * 6,
        *["Validation"] * 2,
        *["Epoch 1 of 2", "Epoch 2 of 2"],
        *["Epoch 2 of 2"] * 7,
        *["Validation"] * 2,
        "Epoch 2 of 2",
        *["Validation"] * 3,
    ]
    assert [line for level, line in lines if level == "WARNING"] == [
        "this run will take 3 days, 12:00:00 at this pace: lower it"
    ]
    assert "Validation: batch 1 of 2; 6:00:00 left" in [line for _, line in lines]
    assert re.fullmatch(r"Validation: val_loss \d\.\d{3}; it took 12:00:00", lines[-1][1])
    assert ", val_loss " in lines[11][1], "a validation within the fit is part of its epoch's line"


def test_on_a_gpu_only_at_logged_steps(run, monkeypatch):
    class Elsewhere(RunLog):
        def on_train_batch_end(self, trainer, *arguments):
            with monkeypatch.context() as patch:
                patch.setattr(type(trainer.strategy), "root_device", torch.device("cuda"))
                super().on_train_batch_end(trainer, *arguments)

    # The expected time at step 3; ten minutes after each line the next one.
    lines, _ = run(Classifier(), labelled(), 300.0, Elsewhere(advice="-"), log_every_n_steps=3, max_epochs=1)
    assert [re.findall(r"step (\d).*loss", line) for _, line in lines] == [[], ["6"], ["8"]]
    # Where steps are so long that no line may wait for a logged one, it has no metrics.
    lines, _ = run(Classifier(), labelled(), 3600.0, Elsewhere(advice="-"), log_every_n_steps=5, max_epochs=1)
    assert [line.partition(" images")[0] for _, line in lines[3:7]] == [
        f"Epoch 1 of 1, step {step} of 8: 0.0" for step in (1, 2, 3, 4)
    ]
    assert [re.findall(r"step (\d).*loss", line) for _, line in lines[7:]] == [*4 * [[]], ["8"]]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_modules_of_others(run, accumulated):
    """Their loss, and what castlit adds to it."""
    supervision = AttentionSupervision(None, "backbone.layer4", LabelLogit(1), 0.0, embedding="head", mask=2)
    lines, losses = run(
        Classifier(), labelled(), 1.0, supervision, RunLog(), max_epochs=1, accumulate_grad_batches=accumulated
    )
    line = lines[-1][1]
    assert f" loss {sum(losses) / STEPS:.3f}" in line
    assert re.search(r"train/attention \d\.\d{3}, train/pointing \d\.\d{3}", line)


def test_where_lines_go(run, tmp_path, monkeypatch, capsys):
    """With a bar on the terminal only to files; without logging, to the output."""
    root = logging.getLogger()
    file = logging.FileHandler(tmp_path / "train.log")
    root.addHandler(file)
    try:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        lines, _ = run(Classifier(), labelled(), 20000.0, RunLog(), ProgressBar(), max_epochs=1)
    finally:
        root.removeHandler(file)
        file.close()
    assert lines == [], "no handler but the file's"
    written = (tmp_path / "train.log").read_text()
    assert "Epoch 1 of 1, step 8 of 8: loss" in written
    assert "this run will take 1 day" in written
    shown = capsys.readouterr().out
    assert "warning: this run will take 1 day" in shown
    assert "step 8 of 8" not in shown

    monkeypatch.setattr(root, "handlers", [])
    run(Classifier(), labelled(), 1.0, RunLog(), max_epochs=1)
    assert "Epoch 1 of 1, step 8 of 8: loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batch", "images"),
    [
        (torch.zeros(4, 3, 8, 8), 4),
        ([torch.zeros(4, 3, 8, 8), torch.zeros(4)], 4),
        (([torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 6, 6)], torch.zeros(4)), 4),
        ({"images": [torch.zeros(3, 8, 8), torch.zeros(3, 6, 8)], "targets": [{}, {}]}, 2),
        ({"path": ["a.jpg"] * 4, "image": torch.zeros(4, 3, 8, 8)}, 4),
        ({}, 0),
        ("text", 0),
        (torch.zeros(()), 0),
    ],
)
def test_images_of_a_batch(batch, images):
    assert count_images(batch) == images


def test_minutes_are_checked():
    with pytest.raises(InputError, match=r"callbacks\.run_log\.every_n_minutes must be greater than 0"):
        RunLog(every_n_minutes=0)
