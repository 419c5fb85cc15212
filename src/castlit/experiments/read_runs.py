"""Find the runs of ``castlit.train`` below a folder and read their files."""

import csv
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from castlit.experiments.run_settings import Settings, read_settings
from castlit.reporting.pruned import why_pruned
from castlit.reporting.read_metrics import by_epoch
from castlit.utils.json_files import load_json
from castlit.utils.locking import is_locked
from castlit.utils.plain_yaml import read_plain_yaml
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

RESULTS = Path("evaluation", "results.json")
"""In a study's run: the results of its evaluation."""

DONE, PRUNED, RUNNING, INTERRUPTED, FAILED = "done", "pruned", "running", "interrupted", "failed"

STATES = (DONE, PRUNED, RUNNING, INTERRUPTED, FAILED)
"""The states of a run, in the order of a table's rows."""

BEST = ":best"
"""Suffix of a metric's name: its best value over the epochs instead of the last one."""


@dataclass
class TrainingRun:
    """One run, as read from its folder."""

    name: str
    """Its path, relative to the folder that all runs share."""
    folder: Path
    settings: Settings
    state: str
    note: str = ""
    """More about the state; may be empty."""
    epochs: int | None = None
    """Completed."""
    seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """At the end: all, if the run is done or pruned; otherwise those of the last validation."""
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    """Validation metric → completed epochs → value."""


def read_runs(tops: Sequence[Path]) -> list[TrainingRun]:
    """Read all runs in and below some folders, in the order of their paths.

    Of several folders, those without a run are left out, with a warning: ``outputs/2026-01-31/*/`` are evaluations,
    too.

    Raises:
        InputError: A path is no folder, none has a run in it, or a run's file is broken.
    """
    folders: dict[Path, Path] = {}  # by resolved path: each run once
    without = []
    for top in tops:
        if not top.is_dir():
            raise InputError(f"{top} {'is no folder' if top.exists() else 'does not exist'}: give folders of runs")
        found = list(_below(top))
        if not found:
            without.append(str(top))
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    if not folders:
        if len(without) != 1:
            raise InputError(f"no run of castlit.train is in {', '.join(without)}: give folders of runs")
        raise InputError(
            f"{without[0]} contains no run of castlit.train: no folder in it has a config.yaml and a metrics.csv"
        )
    if without:
        logger.warning("left out, without a run of castlit.train: %s", ", ".join(without))
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    return [_read(folder, real.relative_to(common).as_posix()) for real, folder in folders.items()]


def is_evaluated(folder: Path) -> bool:
    """Whether a study's run is trained and evaluated."""
    return (folder / RESULTS).exists()


def evaluated_metrics(folder: Path, in_percent: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a study's finished run: those of its evaluation, its validation metrics and ``seconds``.

    Nested metrics are named by their path, such as ``grounding/pretext/pointing``.

    Args:
        folder: The run's.
        in_percent: Metrics of the evaluation that are in [0, 100]; they are converted to fractions.

    Raises:
        InputError: A file cannot be read.
    """
    try:
        results = dict(_flat(load_json((folder / RESULTS).read_bytes())["results"]))
        summary = load_json((folder / "summary.json").read_bytes())
        trained = {name: change["end"] for name, change in summary["metrics"].items() if name.startswith("val/")}
        results.update({name: results[name] / 100 for name in in_percent if name in results})
        return {**results, **trained, "seconds": float(summary["seconds"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: its metrics cannot be read ({error!r}); remove it to run it again") from None


def lower_is_better(metric: str) -> bool:
    """Whether the metric is a loss."""
    name = metric.removesuffix(BEST).rpartition("/")[2]
    return name in ("attention", "contrastive", "empty_masks") or "loss" in name


def _below(top: Path) -> Iterator[Path]:
    """The runs in and below a folder. A run contains no other run."""
    for where, folders, files in os.walk(top, followlinks=True):
        folder = Path(where)
        if _is_run(folder, files):
            folders.clear()
            yield folder
        # Numbers in numeric order: 10 comes after 9.
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_natural)


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _is_run(folder: Path, files: Sequence[str]) -> bool:
    if "config.yaml" in files:
        return "metrics.csv" in files or "summary.json" in files or (folder / ".hydra").is_dir()
    try:
        # A training that failed before it wrote anything. Other programs leave this file too, hence the job's name.
        hydra = read_plain_yaml(folder / ".hydra" / "hydra.yaml")
        return str(hydra["hydra"]["job"]["name"]) == "train"
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False


def _read(folder: Path, name: str) -> TrainingRun:
    run = TrainingRun(name, folder, read_settings(folder), DONE, curves=_curves(folder / "metrics.csv"))
    for metric, curve in run.curves.items():
        if curve:
            run.metrics[metric] = curve[max(curve)]
            finite = [value for value in curve.values() if not math.isnan(value)]
            run.metrics[metric + BEST] = (min if lower_is_better(metric) else max)(finite, default=math.nan)
    summary = _summary(folder / "summary.json")
    run.state, run.note = _state(run, summary)
    if summary is not None and run.state != RUNNING:
        run.epochs, run.seconds = summary["epochs"], summary["seconds"]
        run.metrics |= {metric: change["end"] for metric, change in summary["metrics"].items()}
        return run
    run.epochs = max((epoch for curve in run.curves.values() for epoch in curve), default=0)
    if run.state in (RUNNING, INTERRUPTED):
        planned = run.settings.values.get("trainer.max_epochs")
        run.note = f"last validated after {run.epochs} of {planned} epochs"
    return run


def _state(run: TrainingRun, summary: dict[str, Any] | None) -> tuple[str, str]:
    """A run's state and a note on it."""
    if is_locked(run.folder):
        return RUNNING, ""
    if summary is not None:
        return (PRUNED, why_pruned(summary["pruned"])) if summary.get("pruned") else (DONE, "")
    if (run.folder / "bad_batch.json").exists():
        return FAILED, "the loss was not finite, see its bad_batch.json"
    if not run.curves and not (run.folder / "checkpoints" / "last.ckpt").exists():
        return FAILED, "nothing was trained"
    return INTERRUPTED, ""


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = load_json(path.read_bytes())
        # Access everything that is used, so that a broken file is reported with its path.
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
        return {metric: by_epoch(path, metric) for metric in header if metric.startswith("val/")}
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is broken ({error}): remove it, or leave this run out") from None


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)
