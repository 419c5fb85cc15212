"""How to open what a run's loggers have written."""

import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from castlit.cli.app import this_python
from castlit.reporting.metrics_csv import MetricsCSV
from castlit.utils.lightning import pl
from castlit.utils.paths import display_path


def open_lines(loggers: Iterable[object]) -> list[str]:
    """A line for each logger that has written something: what to type, or where to look.

    Args:
        loggers: A trainer's, after its fit.
    """
    return [line for logger in loggers if (line := _open_line(logger))]


def _open_line(logger: object) -> str | None:
    if isinstance(logger, MetricsCSV):
        file = Path(logger.log_dir) / "metrics.csv"
        return f"Metrics: {display_path(file)}" if file.is_file() else None
    if isinstance(logger, pl.loggers.TensorBoardLogger):
        folder = Path(logger.log_dir)
        if not folder.is_dir():
            return None
        return f"TensorBoard: {_program('tensorboard', 'tensorboard.main')} --logdir {_typed(folder)}"
    if isinstance(logger, pl.loggers.WandbLogger):
        return _wandb_line(logger)
    return None


def _wandb_line(logger: pl.loggers.WandbLogger) -> str | None:
    folders = sorted(Path(logger.save_dir or ".").glob(f"wandb/*run-*-{logger.version}")) if logger.version else []
    if not folders:
        return None
    if folders[-1].name.startswith("offline-"):
        return f"W&B, to upload this offline run: {_program('wandb', 'wandb')} sync {_typed(folders[-1])}"
    url = getattr(logger.experiment, "url", None)
    return f"W&B: {url}" if url else None


def _typed(path: Path) -> str:
    return shlex.quote(display_path(path))


def _program(name: str, module: str) -> str:
    """The command of a program that lies beside this Python; ``make train`` does not put its .venv on the path."""
    found = shutil.which(name)
    return name if found and Path(found).parent == Path(sys.executable).parent else f"{this_python()} -m {module}"
