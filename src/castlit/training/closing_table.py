"""The table that ends a training run, and the command to type next."""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from castlit.callbacks.record import RunRecord
from castlit.cli.app import output_dir, this_python
from castlit.cli.config_dir import split_config_dir
from castlit.reporting.open_logs import open_lines
from castlit.utils.lightning import pl
from castlit.utils.paths import display_path

_MEANINGS = {
    "train/contrastive": "loss; rises while the queue fills",
    "train/attention": "loss; 0: the CAM is the mask",
    "train/pointing": "CAM peaks on the object",
    "val/pointing": "the same in validation",
    "val/knn": "neighbours show the same object",
}


def print_closing_table(config: DictConfig, trainer: pl.Trainer, record: RunRecord) -> None:
    """Print how the metrics changed, where the files are, how to open the logs, and how to evaluate the checkpoint.

    Args:
        config: The config of ``castlit.train``.
        trainer: After the fit.
        record: The run's.
    """
    console = Console(soft_wrap=True)
    epochs, steps = trainer.current_epoch, trainer.global_step
    lengths = f"{epochs} epoch{'s' * (epochs != 1)}, {steps} step{'s' * (steps != 1)}"
    title = f"{escape(str(config.name))}: {lengths}"
    console.print(_table(title, record))
    folder = output_dir()
    console.print(f"All files: {display_path(folder)}", markup=False)
    panel = folder / "gradcam.png"
    if panel.is_file():
        console.print(f"Where it looks: {display_path(panel)}", markup=False)
    for line in open_lines(trainer.loggers):
        console.print(line, markup=False, highlight=False)
    checkpoint = Path(getattr(trainer.checkpoint_callback, "last_model_path", ""))
    if checkpoint.is_file() and _has_ground_truth(config):
        console.print("Evaluate it next:")
        command = _evaluate_command(config, checkpoint)
        console.print(f"  {command}", style="bold", markup=False, highlight=False)


def _table(title: str, record: RunRecord) -> Table:
    table = Table(title=title)
    table.add_column("metric")
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
    return table


def _has_ground_truth(config: DictConfig) -> bool:
    """Whether the data have masks that the run did not make itself."""
    masks = config.data.get("masks", "")
    return masks is not None and (masks != "self" or config.data.get("val_masks") not in (None, "self"))


def _trust(config: DictConfig) -> list[str]:
    """The word by which the user's own packages may be imported for a checkpoint that names their classes."""
    targets = [str(OmegaConf.select(config, f"module.{part}._target_")) for part in ("method", "attention")]
    packages = {target.partition(".")[0] for target in targets if "." in target} - {"castlit"}
    return [f"trust=[{','.join(sorted(packages))}]"] if len(packages) > 1 else [f"trust={each}" for each in packages]


def _evaluate_command(config: DictConfig, checkpoint: Path) -> str:
    # The user's own overrides of the data, and of the budget that sets its sizes; other settings keep their defaults.
    parts = ("data=", "data.", "budget=", "budget.")
    overrides = [word for word in HydraConfig.get().overrides.task if word.lstrip("+").startswith(parts)]
    # data= may name a config of the user's.
    config_dir, _ = split_config_dir(sys.argv[1:])
    options = ["--config-dir", config_dir] if config_dir is not None and overrides else []
    arguments = [
        *options,
        f"+protocol={config.evaluate_with}",
        *overrides,
        *_trust(config),
        f"checkpoint={display_path(checkpoint)}",
    ]
    return shlex.join([this_python(), "-m", "castlit.evaluate", *arguments])
