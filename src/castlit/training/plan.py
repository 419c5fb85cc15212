"""What a training is going to do, in one line, and what about it does not fit its images."""

import math
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from castlit.callbacks.record import device_name
from castlit.data import ViewsDataModule
from castlit.module import CASTModule
from castlit.nn import KeyQueue
from castlit.utils.lightning import pl
from castlit.utils.paths import display_path

LAPTOP = "laptop"
"""The budget for small machines."""


class Plan(NamedTuple):
    """What a run is going to do."""

    images: int | None
    """Training images; None for data modules that castlit does not know."""
    batch: int | None
    """Images that each process is to have in a batch; None likewise."""
    processes: int
    epoch_steps: int | None
    """Optimiser steps in an epoch; None where they are not known before the fit."""
    queue: int | None
    """Keys in the method's queue; None without one."""


def plan_of(module: CASTModule, data: pl.LightningDataModule, trainer: pl.Trainer) -> Plan:
    """Find what a run is going to do.

    Args:
        module: What is trained.
        data: Set up for training or validation.
        trainer: In a fit or in the validation before it.
    """
    queue = getattr(module.method, "queue", None)
    keys = len(queue.keys) if isinstance(queue, KeyQueue) else None
    batches = trainer.num_training_batches
    if not isinstance(data, ViewsDataModule):
        return Plan(None, None, trainer.world_size, _steps(batches, trainer), keys)
    if not math.isfinite(batches):
        some = trainer.overfit_batches  # type: ignore[attr-defined]
        count, limit = len(data.train_dataloader()), some or trainer.limit_train_batches
        batches = min(count, limit) if isinstance(limit, int) else int(count * limit)
    return Plan(data.train_images, data.batch_size, trainer.world_size, _steps(batches, trainer), keys)


def plan_line(plan: Plan, config: DictConfig, module: CASTModule, trainer: pl.Trainer, folder: Path) -> str:
    """The line that says what a run is going to do: data, length, network, device and folder.

    Args:
        plan: The run's.
        config: The config of ``castlit.train``.
        module: What is trained.
        trainer: Trains it.
        folder: The run's.
    """
    backbone = OmegaConf.select(config, "module.method.backbone")
    size = OmegaConf.select(config, "data.size")
    epochs, steps = trainer.max_epochs, trainer.max_steps
    ends = [f"{epochs:,} epoch{'s' * (epochs != 1)}" if epochs not in (None, -1) else ""]
    ends += [f"at most {steps:,} step{'s' * (steps != 1)}" if steps != -1 else ""]
    groups = [
        [
            "" if plan.images is None else f"{plan.images:,} images",
            "" if plan.epoch_steps is None else f"{plan.epoch_steps:,} step{'s' * (plan.epoch_steps != 1)} an epoch",
            *ends,
        ],
        [
            backbone if isinstance(backbone, str) else type(module.encoder.backbone).__name__,
            "" if size is None else f"{size} px",
            "" if plan.batch is None else f"batches of {plan.batch:,}",
        ],
        [
            f"{plan.processes} processes" if plan.processes > 1 else "",
            device_name(trainer.strategy.root_device),
            str(trainer.precision),
        ],
        [f"all files go to {display_path(folder)}"],
    ]
    return f"{config.name}: {'; '.join(filter(None, (', '.join(filter(None, group)) for group in groups)))}"


def too_few_images(plan: Plan, budget: str | None) -> str | None:
    """The warning about a batch or a queue that is larger than the data set; None where both fit.

    Args:
        plan: The run's.
        budget: The option of the group ``budget``.
    """
    if plan.images is None or plan.batch is None:
        return None
    keys, effects = [], []
    if plan.batch * plan.processes > plan.images:
        each = f" of each of {plan.processes} processes" if plan.processes > 1 else ""
        keys.append(f"data.batch_size={plan.batch}{each}")
        effects.append("an epoch is one step")
    if plan.queue is not None and plan.queue > plan.images:
        keys.append(f"method.queue_size={plan.queue}")
        effects.append("an image meets its own earlier keys among its negatives")
    if not keys:
        return None
    what, them = (" and ".join(keys), "them") if len(keys) > 1 else (keys[0], "it")
    advice = f"lower {them}" if budget == LAPTOP else f"lower {them}, or add budget={LAPTOP}"
    return f"{what}: more than the {plan.images:,} images, so that {' and '.join(effects)}: {advice}"


def _steps(batches: float, trainer: pl.Trainer) -> int | None:
    return math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else None
