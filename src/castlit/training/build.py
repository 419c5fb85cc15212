"""Build a training run's module, data and trainer from its config."""

import re

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from castlit.module import CASTModule
from castlit.module.run_end import require_no_end
from castlit.training.machine_choices import with_choices
from castlit.utils.gpu import find_gpu
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError, require_bool, require_choice, require_int


def build(config: DictConfig) -> tuple[CASTModule, pl.LightningDataModule, pl.Trainer]:
    """Seed all random generators, then instantiate the module, the data and the trainer.

    Args:
        config: The config of ``castlit.train``; for keys that are ``auto``, see
            :func:`castlit.training.machine_choices.choices`.

    Raises:
        InputError: A value is out of its range.
    """
    if isinstance(config.name, bool) or not isinstance(config.name, (str, int, float)):
        raise InputError(f"name must be text, such as my_run; got {config.name}")
    config = with_choices(config, find_gpu(str(config.trainer.accelerator)))
    torch.set_float32_matmul_precision(
        require_choice("float32_matmul_precision", config.float32_matmul_precision, ("highest", "high", "medium"))
    )
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    data: pl.LightningDataModule = instantiate(config.data, _convert_="all")
    module: CASTModule = instantiate(config.module, _convert_="all")
    if require_bool("channels_last", config.channels_last):
        module = module.to(memory_format=torch.channels_last)
    trainer = build_trainer(config)
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        # Before the first validation, and before an earlier run's files give way.
        require_no_end(module.optimizer, module.method, endless_data=False)
    return module, data, trainer


def build_trainer(config: DictConfig) -> pl.Trainer:
    """Instantiate the trainer with its callbacks and loggers.

    Args:
        config: The config of ``castlit.train``, in which no key of the trainer is ``auto``.

    Raises:
        InputError: A value is out of its range.
    """
    _require_lengths(config.trainer)
    loggers = [instantiate(logger) for logger in _parts(config, "logger")]
    trainer: pl.Trainer = instantiate(config.trainer, callbacks=_callbacks(config), logger=loggers)
    return trainer


def _require_lengths(trainer: DictConfig) -> None:
    """Check what Lightning checks late, or not at all: its errors have a traceback.

    Raises:
        InputError: A value is out of its range.
    """
    require_int("trainer.accumulate_grad_batches", trainer.get("accumulate_grad_batches", 1), low=1)
    for key, low in (("max_epochs", -1), ("check_val_every_n_epoch", 1)):
        if trainer.get(key) is not None:
            require_int(f"trainer.{key}", trainer[key], low)
    length = trainer.get("max_time")
    is_time = isinstance(length, str) and re.fullmatch(r"\d+(:\d\d){3}", length.strip())
    is_class = isinstance(length, DictConfig) and "_target_" in length  # datetime.timedelta
    if not (length is None or is_time or is_class):
        raise InputError(f"trainer.max_time must be null or DD:HH:MM:SS, such as 00:00:05:00; got {length}")


def _callbacks(config: DictConfig) -> list[pl.Callback]:
    """The callbacks, except those that the trainer's switches turn off."""
    callbacks = [instantiate(callback, _convert_="all") for callback in _parts(config, "callbacks")]
    off: tuple[type, ...] = ()
    if not config.trainer.enable_progress_bar:
        off += (pl.callbacks.ProgressBar,)
    if not config.trainer.enable_checkpointing:
        off += (pl.callbacks.Checkpoint,)
    return [callback for callback in callbacks if not isinstance(callback, off)]


def _parts(config: DictConfig, key: str) -> list[DictConfig]:
    """The configs of callbacks or loggers, but those that are null.

    Raises:
        InputError: One is no config, or names no class.
    """
    parts = {name: part for name, part in (config.get(key) or {}).items() if part}
    for name, part in parts.items():
        if not isinstance(part, DictConfig) or "_target_" not in part:
            raise InputError(f"{key}.{name} must be null, or have the _target_ of a class; got {part}")
    return list(parts.values())
