"""Find the runs of ``castlit.train`` below a folder, and read what they left."""

import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from castlit.callbacks.pruning import why_pruned
from castlit.experiments.settings import Settings, read_settings
from castlit.reporting.metrics_csv import by_epoch
from castlit.utils.locking import is_held
from castlit.utils.validation import InputError

DONE, PRUNED, RUNNING, BROKEN_OFF, FAILED = "done", "pruned", "running", "broken off", "failed"
"""What can have become of a run, in the order of a table."""

STATES = (DONE, PRUNED, RUNNING, BROKEN_OFF, FAILED)

BEST = ":best"
"""Added to a figure's name: its best value over the epochs, where the figure without is the last one."""


@dataclass
class TrainingRun:
    """One run, as its folder tells."""

    name: str
    """Its path, as short as it tells it from the others."""
    folder: Path
    settings: Settings
    state: str
    note: str = ""
    """More about the state; may be empty."""
    epochs: int | None = None
    """Done."""
    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """At the end: of runs that are done or pruned, all; of others those of the last validation."""
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    """Of validation figures: epochs done → value."""


def read_runs(tops: Sequence[Path]) -> list[TrainingRun]:
    """Read all runs below some folders, the folders themselves included, in the order of their paths.

    Raises:
        InputError: A folder is none, or holds no run; or a run's file is broken.
    """
    folders: dict[Path, Path] = {}  # each once, by what it really is
    for top in tops:
        if not top.is_dir():
            raise InputError(f"{top} {'is no folder' if top.exists() else 'does not exist'}: give folders of runs")
        found = list(_below(top))
        if not found:
            raise InputError(
                f"{top} holds no run of castlit.train: no folder in it has a config.yaml and a metrics.csv"
            )
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    return [_read(folder, real.relative_to(common).as_posix()) for real, folder in folders.items()]


def lower_is_better(figure: str) -> bool:
    """Whether it is a loss."""
    name = figure.removesuffix(BEST).rpartition("/")[2]
    return name in ("attention", "contrastive", "empty_masks") or "loss" in name


def _below(top: Path) -> Iterator[Path]:
    """The runs below a folder; within a run there is none."""
    for where, folders, files in os.walk(top, followlinks=True):
        folder = Path(where)
        if _is_run(folder, files):
            folders.clear()
            yield folder
        # 10 comes after 9.
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_natural)


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _is_run(folder: Path, files: Sequence[str]) -> bool:
    if "config.yaml" in files:
        return "metrics.csv" in files or "summary.json" in files or (folder / ".hydra").is_dir()
    try:
        # A training that failed before it wrote anything; other programs' folders have this file, too.
        hydra = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_bytes())
        return str(hydra["hydra"]["job"]["name"]) == "train"
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False


def _read(folder: Path, name: str) -> TrainingRun:
    run = TrainingRun(name, folder, read_settings(folder), DONE, curves=_curves(folder / "metrics.csv"))
    planned = run.settings.values.get("trainer.max_epochs")
    for figure, curve in run.curves.items():
        if curve:
            run.figures[figure] = curve[max(curve)]
            finite = [value for value in curve.values() if not math.isnan(value)]
            run.figures[figure + BEST] = (min if lower_is_better(figure) else max)(finite, default=math.nan)
    summary = _summary(folder / "summary.json")
    if is_held(folder):
        run.state = RUNNING
    elif summary is None and (folder / "bad_batch.json").exists():
        run.state, run.note = FAILED, "the loss was not finite, see its bad_batch.json"
    elif summary is None and not run.curves and not (folder / "checkpoints" / "last.ckpt").exists():
        run.state, run.note = FAILED, "nothing was trained"
    elif summary is None:
        run.state = BROKEN_OFF
    elif summary is not None and summary.get("pruned"):
        run.state = PRUNED
        run.note = why_pruned(summary["pruned"])
    if summary is not None and run.state != RUNNING:
        run.epochs, run.seconds = summary["epochs"], summary["seconds"]
        run.figures |= {figure: change["end"] for figure, change in summary["metrics"].items()}
    else:
        run.epochs = max((epoch for curve in run.curves.values() for epoch in curve), default=0)
        if run.state in (RUNNING, BROKEN_OFF):
            run.note = f"last looked at after {run.epochs} of {planned} epochs"
    return run


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads(path.read_bytes())
        # All that is used of it.
        _ = summary["epochs"] + summary["seconds"], [change["end"] + 0 for change in summary["metrics"].values()]
        _ = why_pruned(summary["pruned"]) if summary.get("pruned") else ""
        return summary
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is broken ({error!r}): remove it, or leave this run out") from None


def _curves(path: Path) -> dict[str, dict[int, float]]:
    try:
        with path.open(newline="") as file:
            header = next(csv.reader(file), [])
        return {figure: by_epoch(path, figure) for figure in header if figure.startswith("val/")}
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is broken ({error}): remove it, or leave this run out") from None
