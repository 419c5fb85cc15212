"""The first line of a training, and the warning where batch or queue are larger than the data set."""

import pytest
import pytorch_lightning as pl
import torch

from castlit.callbacks.record import device_name
from castlit.training.build import build
from castlit.training.plan import Plan, plan_line, plan_of, too_few_images
from support.configs import composed

SMALL = [
    *("data.train_count=20", "data.val_count=4", "data.batch_size=6", "data.size=32", "data.scene_size=36"),
    *("data.workers=0", "trainer.accelerator=cpu", "method.queue_size=16"),
]


class Seen(Exception):
    """Ends a fit before its first step."""


class InFit(pl.Callback):
    def __init__(self, data):
        self.data = data

    def on_train_start(self, trainer, pl_module):
        self.plan = plan_of(pl_module, self.data, trainer)
        raise Seen


def built(folder, *words):
    config = composed(folder, *SMALL, *words)
    module, data, trainer = build(config)
    data.setup("validate")
    return config, module, data, trainer


@pytest.mark.filterwarnings("ignore:.*requested to overfit.*", "ignore:.*smaller than the logging interval.*")
@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ([], 3),
        (["data.batch_size=32"], 1),
        (["trainer.accumulate_grad_batches=2"], 2),
        (["trainer.limit_train_batches=2"], 2),
        (["trainer.limit_train_batches=0.4"], 1),
        (["trainer.overfit_batches=1"], 1),
        (["trainer.fast_dev_run=2"], 2),
    ],
    ids=str,
)
def test_steps_before_the_fit(tmp_path, words, steps):
    _, module, data, trainer = built(tmp_path, *words)
    plan = plan_of(module, data, trainer)
    assert plan == Plan(20, data.batch_size, 1, steps, 16)
    in_fit = InFit(data)
    trainer.callbacks.append(in_fit)
    with pytest.raises(Seen):
        trainer.fit(module, data)
    assert in_fit.plan == plan, "as Lightning counts them"


def test_line(tmp_path):
    config, module, data, trainer = built(tmp_path, "+experiment=cast_mocov2", "name=my run", "trainer.max_epochs=1234")
    line = plan_line(plan_of(module, data, trainer), config, module, trainer, tmp_path / "run")
    assert line == (
        "my run: 20 images, 3 steps an epoch, 1,234 epochs; tiny_resnet, 32 px, batches of 6; "
        f"{device_name(torch.device('cpu'))}, 32-true; all files go to {tmp_path / 'run'}"
    )
    config, module, data, trainer = built(
        tmp_path, "trainer.max_epochs=-1", "trainer.max_steps=5", "method.backbone={_target_: castlit.nn.tiny_resnet}"
    )
    line = plan_line(plan_of(module, data, trainer), config, module, trainer, tmp_path)
    assert "3 steps an epoch, at most 5 steps; Sequential, 32 px" in line
    trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = 1, 1
    config.name = 2024
    line = plan_line(plan_of(module, data, trainer), config, module, trainer, tmp_path)
    assert line.startswith("2024: 20 images, 3 steps an epoch, 1 epoch, at most 1 step; ")


def test_data_of_others(tmp_path):
    """Nothing is known of them before the fit."""
    config, module, _, trainer = built(tmp_path)
    plan = plan_of(module, torch.utils.data.Dataset(), trainer)
    assert plan == Plan(None, None, 1, None, 16)
    assert plan_line(plan, config, module, trainer, tmp_path).startswith("cast_mocov2: 12 epochs; tiny_resnet, 32 px; ")
    assert too_few_images(plan, None) is None


@pytest.mark.parametrize(
    ("plan", "budget", "expected"),
    [
        (Plan(40, 40, 1, 1, 40), None, None),
        (Plan(40, 40, 1, 1, None), "photographs", None),
        (
            Plan(40, 256, 1, 1, 65536),
            "photographs",
            "data.batch_size=256 and method.queue_size=65536: more than the 40 images, so that an epoch is one step "
            "and an image meets its own earlier keys among its negatives: lower them, or add budget=laptop",
        ),
        (
            Plan(40, 32, 2, 1, None),
            "photographs",
            "data.batch_size=32 of each of 2 processes: more than the 40 images, so that an epoch is one step: lower "
            "it, or add budget=laptop",
        ),
        (
            Plan(20, 16, 1, 1, 32),
            "laptop",
            "method.queue_size=32: more than the 20 images, so that an image meets its own earlier keys among its "
            "negatives: lower it",
        ),
    ],
)
def test_too_few_images(plan, budget, expected):
    assert too_few_images(plan, budget) == expected
