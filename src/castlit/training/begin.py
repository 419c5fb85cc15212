"""What happens once a run is sure to train: until then it may be refused, and a refused command leaves no trace."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from castlit.cli.app import output_dir
from castlit.cli.refused import accept
from castlit.module import CASTModule
from castlit.resume.request import LAST_CHECKPOINT
from castlit.resume.start import put_aside, remove_old_results
from castlit.resume.training_run import last_path
from castlit.training.machine_choices import choices_line
from castlit.training.plan import plan_line, plan_of, too_few_images
from castlit.utils.atomic_write import write_atomic
from castlit.utils.gpu import find_gpu
from castlit.utils.lightning import pl
from castlit.utils.log_lines import say
from castlit.utils.paths import display_path
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)


def refuse_dev_run(config: DictConfig, folder: Path) -> None:
    """Refuse ``trainer.fast_dev_run`` in the folder of an earlier run: its files would become those of a few batches.

    Args:
        config: The run's.
        folder: The run's, before anything of it is written there.

    Raises:
        InputError: An earlier run has left its metrics or checkpoints, as one of a few batches does not.
    """
    earlier = (folder / "metrics.csv", folder / LAST_CHECKPOINT.parent)
    if config.trainer.fast_dev_run and any(path.exists() for path in earlier):
        raise InputError(
            f"trainer.fast_dev_run would replace the run in {display_path(folder)}: choose another hydra.run.dir"
        )


def begin(
    config: DictConfig, module: CASTModule, data: pl.LightningDataModule, trainer: pl.Trainer, checkpoint: Path | None
) -> None:
    """Replace what an earlier run has left in this run's folder, write this run's configuration, say what will run.

    Args:
        config: The run's.
        module: What is trained.
        data: Its data, set up.
        trainer: Trains it.
        checkpoint: What it starts from; None: from scratch.
    """
    accept()
    if not trainer.is_global_zero:
        return
    plan = plan_of(module, data, trainer)
    say(logger, plan_line(plan, config, module, trainer, output_dir()))
    line = choices_line(config, find_gpu(str(config.trainer.accelerator)))
    if line is not None:
        say(logger, line)
    warning = too_few_images(plan, HydraConfig.get().runtime.choices.get("budget"))
    if warning is not None:
        logger.warning("%s", warning)
    last = last_path(trainer)
    if not config.trainer.fast_dev_run:
        if checkpoint is None and last is not None:
            put_aside(last)
        remove_old_results(output_dir())
    write_atomic(output_dir() / "config.yaml", OmegaConf.to_yaml(config, resolve=True).encode())
