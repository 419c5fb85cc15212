"""Timed trainings under Lightning: with the trainer of ``castlit.train``, and with Lightning's defaults."""

import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from castlit.bench.loops import Batch
from castlit.cli.config_dir import CONFIG_MODULE
from castlit.training.build import build_trainer
from castlit.training.machine_choices import with_choices
from castlit.utils.gpu import find_gpu
from castlit.utils.lightning import PACKAGE, pl

Clock = Callable[[], float]
MakeTrainer = Callable[[str, str], pl.Trainer]
"""Takes the folder for all files and the precision."""


def castlit_trainer(folder: str, precision: str) -> pl.Trainer:
    """The trainer of ``castlit.train`` on photographs: its own callbacks, progress bar, logger, clipping."""
    config = _train_config().copy()
    config.output_dir, config.trainer.precision, config.trainer.max_epochs = folder, precision, 1
    return build_trainer(with_choices(config, find_gpu(str(config.trainer.accelerator))))


@lru_cache(maxsize=1)
def _train_config() -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("train", ["+experiment=cast_mocov2", "data=folder"])


def default_trainer(folder: str, precision: str) -> pl.Trainer:
    """Lightning's trainer as documentations show it: with its bar, its logger and its checkpoints."""
    return pl.Trainer(max_epochs=1, devices=1, precision=precision, default_root_dir=folder)  # type: ignore[arg-type]


def fit(
    module: pl.LightningModule,
    make_trainer: MakeTrainer,
    batches: list[Batch],
    warm_up: int,
    clock: Clock,
    autocast: bool,
) -> float:
    """Train on batches; return the seconds of all steps but the first ``warm_up``, without the run's start and end."""
    timer = _Timer(warm_up, clock)
    rank_zero = logging.getLogger(f"{PACKAGE}.utilities.rank_zero")
    level = rank_zero.level
    rank_zero.setLevel(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stdout(_Terminal()):
            warnings.simplefilter("ignore")
            trainer = make_trainer(folder, "bf16-mixed" if autocast else "32-true")
            trainer.callbacks.insert(0, timer)  # type: ignore[attr-defined]
            trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    finally:
        rank_zero.setLevel(level)
    return timer.seconds


class _Timer(pl.Callback):
    """The first of the callbacks: a step's time includes those of the others, and a checkpoint's comes after it."""

    def __init__(self, warm_up: int, clock: Clock) -> None:
        self.warm_up, self.clock = warm_up, clock
        self.start = self.seconds = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, i: int) -> None:
        if i == self.warm_up:
            self.start = self.clock()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds = self.clock() - self.start


class _Terminal(io.StringIO):
    """A terminal that nobody sees: progress bars render for it as they do for a user."""

    def isatty(self) -> bool:
        return True
