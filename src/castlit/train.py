"""Train CAST: ``python -m castlit.train +experiment=cast_mocov2``.

Every part is chosen and set from the command line; ``--help`` lists the groups, ``--cfg job`` shows the whole config.
"""

import logging
import shlex
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from castlit.callbacks import RunRecord
from castlit.cli.app import output_dir, program, this_python
from castlit.cli.config_dir import split_config_dir
from castlit.cli.launch import end_children, end_with_parent, in_one_folder, refuse_relaunched_sweep
from castlit.resume.find_run import go_on_in_its_folder
from castlit.resume.start import forget_the_last_end, say_how_to_go_on, starting_point
from castlit.utils.locking import holding
from castlit.utils.paths import shown
from castlit.utils.signals import Stopped
from castlit.utils.validation import require_int


def train(config: DictConfig) -> float | None:
    """Train as the config says.

    Returns:
        The metric that the config names as ``objective`` (for sweepers), or ``None`` where it was not logged.
    """
    _quiet()
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    data = instantiate(config.data, _convert_="all")
    module = instantiate(config.module, _convert_="all")
    if config.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if config.trainer.max_epochs is not None:
        # Lightning finds out too late, and with a traceback.
        require_int("trainer.max_epochs", config.trainer.max_epochs, low=-1)
    callbacks = _callbacks(config)
    record = next((callback for callback in callbacks if isinstance(callback, RunRecord)), None)
    loggers = [instantiate(logger) for logger in config.logger.values() if logger]
    trainer: pl.Trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers)
    refuse_relaunched_sweep(lambda: trainer)
    with holding(output_dir()) if trainer.is_global_zero else nullcontext():
        start = starting_point(config, module, trainer, loggers)
        if trainer.is_global_zero:
            if not config.trainer.fast_dev_run:
                forget_the_last_end(output_dir())
            OmegaConf.save(config, output_dir() / "config.yaml", resolve=True)
        try:
            if start is None:
                # Where it starts: the first row of the metrics, and the panel's "before training".
                trainer.validate(module, data, verbose=False)
            trainer.fit(module, data, ckpt_path=start, weights_only=True)
            if record is not None and record.validated_at != trainer.global_step:
                # Whatever ended it (epochs, steps, time), the run's last figures are those of the final weights.
                trainer.validate(module, data, verbose=False)
        except Stopped as stop:
            say_how_to_go_on(stop, trainer)
            raise
        except BaseException:
            end_children(trainer)
            raise
        finally:
            _close(loggers)
    if trainer.is_global_zero and record is not None:
        _report(config, record, trainer)
    return _objective(config.objective, trainer, record)


def _objective(name: str, trainer: pl.Trainer, record: RunRecord | None) -> float | None:
    found = trainer.callback_metrics.get(name)
    if found is not None:
        return float(found)
    # A run that was resumed at its end has not measured it again.
    return record.metrics[name].end if record is not None and name in record.metrics else None


def _callbacks(config: DictConfig) -> list[pl.Callback]:
    """Build the callbacks, but for those that the trainer's own switches turn off."""
    callbacks = [instantiate(callback, _convert_="all") for callback in config.callbacks.values() if callback]
    off: tuple[type, ...] = ()
    if not config.trainer.enable_progress_bar:
        off += (pl.callbacks.ProgressBar,)
    if not config.trainer.enable_checkpointing:
        off += (pl.callbacks.Checkpoint,)
    return [callback for callback in callbacks if not isinstance(callback, off)]


def _quiet() -> None:
    # Advice for other set-ups than ours, on every run; the progress bar and the closing table say what matters.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*Using `DistributedSampler` with the dataloaders.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")


def _close(loggers: list[object]) -> None:
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()  # The next job of a sweep starts a run of its own.


def _report(config: DictConfig, record: RunRecord, trainer: pl.Trainer) -> None:
    """Print the closing table and the command to type next."""
    console = Console(soft_wrap=True)
    table = Table(title=f"{escape(config.name)}: {trainer.current_epoch} epochs, {trainer.global_step} steps")
    table.add_column("figure")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_column("")
    table.add_column("what it is")
    for name, meaning in _MEANINGS.items():
        if name in record.metrics:
            change = record.metrics[name]
            start, end = f"{change.start:.3f}", f"{change.end:.3f}"
            verdict = "same" if start == end else "fell" if change.end < change.start else "rose"
            table.add_row(name, start, end, verdict, meaning)
    console.print(table)
    folder = output_dir()
    console.print(f"All files: {shown(folder)}", markup=False)
    panel = folder / "gradcam.png"
    if panel.is_file():
        console.print(f"Where it looks: {shown(panel)}", markup=False)
    checkpoint = getattr(trainer.checkpoint_callback, "last_model_path", "")
    # Without masks there is no ground truth to evaluate against, nor with those that the run made itself.
    masks = config.data.get("masks", "")
    judged = masks is not None and (masks != "self" or config.data.get("val_masks") not in (None, "self"))
    if Path(checkpoint).is_file() and judged:
        # The data as the user chose it, with the user's own words; the rest of the data's settings are its defaults.
        chosen = [word for word in HydraConfig.get().overrides.task if word.startswith(("data=", "data."))]
        # The chosen data may be among the user's own configs.
        config_dir, _ = split_config_dir(sys.argv[1:])
        own = ["--config-dir", config_dir] if config_dir is not None and chosen else []
        arguments = [*own, f"+protocol={config.evaluate_with}", *chosen, f"checkpoint={shown(Path(checkpoint))}"]
        console.print("Evaluate it next:")
        command = shlex.join([this_python(), "-m", "castlit.evaluate", *arguments])
        console.print(f"  {command}", style="bold", markup=False, highlight=False)


_MEANINGS = {
    "train/contrastive": "loss; rises while the queue fills",
    "train/attention": "loss; 0: the CAM is the mask",
    "train/pointing": "CAM peaks on the object",
    "val/pointing": "the same in validation",
    "val/knn": "neighbours show the same object",
}


def main() -> None:
    """Run the program."""
    end_with_parent()
    program("train", train, prepare=lambda arguments: in_one_folder(go_on_in_its_folder(arguments)))


if __name__ == "__main__":
    main()
