"""Compare runs: what differs between them, their order, and the mean over seeds of equal settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from castlit.experiments.estimates import Estimate, estimate
from castlit.experiments.read_runs import BEST, DONE, STATES, TrainingRun, lower_is_better
from castlit.experiments.run_settings import SEED, differing, token
from castlit.utils.validation import InputError, did_you_mean

USUAL = ("val/knn", "val/pointing", "train/loss", "train/contrastive", "train/attention", "train/pointing")
"""The usual metrics; runs are sorted by the first that exists."""


@dataclass
class Group:
    """Finished runs with equal settings but for the seed."""

    settings: dict[str, Any]
    """Of the keys that differ between the runs, without the seed."""
    runs: list[TrainingRun]

    @property
    def seeds(self) -> int:
        """Number of different seeds."""
        return len({repr(run.settings.get(SEED)) for run in self.runs})

    def values(self, metric: str) -> list[float]:
        """One value for each seed. Repetitions of a seed are not independent, so they count once, by their mean."""
        by_seed: dict[str, list[float]] = {}
        for run in self.runs:
            if metric in run.metrics:
                by_seed.setdefault(repr(run.settings.get(SEED)), []).append(run.metrics[metric])
        return [sum(values) / len(values) for values in by_seed.values()]

    def estimate(self, metric: str) -> Estimate | None:
        """The mean over seeds; None if no run has the metric."""
        values = self.values(metric)
        return estimate(values) if values else None


@dataclass
class Comparison:
    """Runs side by side."""

    keys: list[str]
    """The settings that differ between the runs."""
    metrics: list[str]
    """All metrics, the usual ones first."""
    sort: str
    """The metric by which the runs are sorted."""
    runs: list[TrainingRun]
    """The best first; then those that are not done."""
    groups: list[Group]
    """The best mean first; they contain finished runs only."""

    @property
    def main(self) -> str:
        """The metric without ``:best``."""
        return self.sort.removesuffix(BEST)

    @property
    def several_seeds(self) -> bool:
        """Whether any settings were run with more than one seed."""
        return any(group.seeds > 1 for group in self.groups)


def compare_runs(runs: Sequence[TrainingRun], sort: str | None = None) -> Comparison:
    """Put runs side by side.

    Args:
        runs: At least one.
        sort: The metric to sort by, such as ``val/knn`` or ``val/knn:best``; None: the first of ``val/knn``,
            ``val/pointing`` and ``train/loss`` that exists.

    Raises:
        InputError: No run has this metric.
    """
    found = {metric for run in runs for metric in run.metrics}
    metrics = [*(name for usual in USUAL for name in (usual, usual + BEST) if name in found)]
    metrics += sorted(found - set(metrics))
    if sort is None:
        sort = metrics[0] if metrics else USUAL[0]
    elif sort not in found:
        there = f"there are {', '.join(metrics)}" if metrics else "none of them has any metric"
        raise InputError(f"sort={sort}: no run has this metric; {there}{did_you_mean(sort, metrics)}")
    keys = differing([run.settings for run in runs])
    ordered = sorted(runs, key=lambda run: (STATES.index(run.state), _rank(run.metrics.get(sort), sort)))
    groups: dict[tuple[str, ...], Group] = {}
    for run in ordered:
        settings = {key: run.settings.get(key) for key in keys if key != SEED}
        if run.state == DONE:
            same = tuple(map(token, settings.values()))
            groups.setdefault(same, Group(settings, [])).runs.append(run)
    by_mean = sorted(groups.values(), key=lambda group: _rank(_mean(group.estimate(sort)), sort))
    return Comparison(keys, metrics, sort, ordered, by_mean)


def _rank(value: float | None, metric: str) -> tuple[bool, float]:
    """A sort key: the best value first, missing ones and NaN last."""
    if value is None or value != value:
        return True, 0.0
    return False, value if lower_is_better(metric) else -value


def _mean(found: Estimate | None) -> float | None:
    return None if found is None else found.mean
