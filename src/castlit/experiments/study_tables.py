"""A study's tables: means with intervals, and differences from the controls."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from castlit.experiments.estimates import ByConfiguration, BySeed, Estimate, difference, estimates, fewer_seeds
from castlit.experiments.read_runs import evaluated_metrics, is_evaluated
from castlit.experiments.study_plan import PlannedRun
from castlit.experiments.tables import TextTable
from castlit.utils.validation import did_you_mean

CSV_HEADER = ["arm", "minus", "figure", "mean", "half_width_95", "seeds"]


class Study(NamedTuple):
    """What a study compares."""

    title: str
    about: str
    """The question, in words."""
    columns: Sequence[str]
    """The metrics of tables and plot."""
    pairs: Sequence[tuple[str, str]]
    """Configurations that are compared seed by seed: each and its control."""


def by_configuration(
    runs: Sequence[PlannedRun], in_percent: Sequence[str] = ()
) -> dict[str, dict[int, dict[str, float]]]:
    """Configuration → seed → metric → value, of the finished runs.

    Raises:
        InputError: A finished run's files cannot be read.
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        seeds = found.setdefault(run.configuration, {})
        if is_evaluated(run.folder):
            seeds[run.seed] = evaluated_metrics(run.folder, in_percent)
    return found


def missing_metric(metrics: ByConfiguration, name: str) -> str:
    """A line on a metric that no run has, with the nearest name; empty if a run has it or none is done."""
    names = {found for seeds in metrics.values() for values in seeds.values() for found in values}
    return f"no run has the metric {name}{did_you_mean(name, sorted(names))}" if names and name not in names else ""


def means(study: Study, metrics: ByConfiguration) -> TextTable:
    """Means with intervals, in per cent, and the median of the training time in seconds.

    The median: a machine that was busy for a while makes some runs slow, whatever the configuration.
    """
    rows = []
    for name, seeds in metrics.items():
        cells = [_text(estimates(seeds, column), len(seeds)) for column in study.columns]
        seconds = [values["seconds"] for values in seeds.values()]
        rows.append([name, str(len(seeds)), *cells, f"{np.median(seconds):.0f}" if seconds else ""])
    return TextTable(["", "seeds", *study.columns, "seconds of training"], rows)


def differences(study: Study, metrics: ByConfiguration) -> TextTable | None:
    """Differences between configurations and their controls, in points; None if nothing is compared."""
    rows = []
    for name, control in study.pairs:
        if name in metrics and control in metrics:
            seeds = max(len(metrics[name]), len(metrics[control]))
            found = [difference(metrics[name], metrics[control], column) for column in study.columns]
            rows.append([f"{name} - {control}", *(_text(each, seeds, signed=True) for each in found)])
    return TextTable(["", *study.columns], rows) if rows else None


def csv_rows(study: Study, metrics: ByConfiguration) -> Iterator[list[Any]]:
    """One row for each metric of each configuration and of each difference, unrounded."""
    for name, seeds in metrics.items():
        for metric in _names(seeds):
            yield [name, "", metric, *(estimates(seeds, metric) or ())]
    for name, control in study.pairs:
        for metric in _names(metrics[name]):
            yield [name, control, metric, *(difference(metrics[name], metrics[control], metric) or ())]


def _text(found: Estimate | None, expected: int, signed: bool = False) -> str:
    """An estimate as a cell, with the number of seeds if fewer than expected have the metric."""
    if found is None:
        return ""
    return (f"+{found}" if signed and round(found.mean, 3) > 0 else str(found)) + fewer_seeds(found, expected)


def _names(seeds: BySeed) -> list[str]:
    return list(dict.fromkeys(name for values in seeds.values() for name in values))
