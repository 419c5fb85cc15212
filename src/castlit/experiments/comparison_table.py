"""Runs as rows, and several seeds of the same settings as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from castlit.experiments.estimates import Estimate, estimate
from castlit.experiments.read_runs import BEST, DONE, STATES, TrainingRun, lower_is_better
from castlit.experiments.settings import SEED, differing, token
from castlit.utils.validation import InputError, did_you_mean

_FIRST = ("val/knn", "val/pointing", "train/loss", "train/contrastive", "train/attention", "train/pointing")
"""In this order, what a run is judged by, where the user does not say."""


@dataclass
class Group:
    """Runs that differ in nothing but their seed, and are done."""

    settings: dict[str, Any]
    """Of the keys that differ between the runs, without the seed."""
    runs: list[TrainingRun]

    @property
    def seeds(self) -> int:
        """How many different ones."""
        return len({repr(run.settings.get(SEED)) for run in self.runs})

    def values(self, figure: str) -> list[float]:
        """One value for each seed: the same run made twice is no second witness, and counts as one, by its mean."""
        by_seed: dict[str, list[float]] = {}
        for run in self.runs:
            if figure in run.figures:
                by_seed.setdefault(repr(run.settings.get(SEED)), []).append(run.figures[figure])
        return [sum(values) / len(values) for values in by_seed.values()]

    def estimate(self, figure: str) -> Estimate | None:
        """The mean over seeds; None where none of them has the figure."""
        values = self.values(figure)
        return estimate(values) if values else None


@dataclass
class Comparison:
    """All that a table, a plot or a file says."""

    keys: list[str]
    """What differs between the runs."""
    figures: list[str]
    """What any of them has, the most telling first."""
    sort: str
    """The figure by which they are sorted."""
    runs: list[TrainingRun]
    """The best first; then those that are not done."""
    groups: list[Group]
    """The best mean first; runs that are not done are in none."""

    @property
    def main(self) -> str:
        """The figure without ``:best``."""
        return self.sort.removesuffix(BEST)

    @property
    def several_seeds(self) -> bool:
        """Whether any settings have been run with more than one."""
        return any(group.seeds > 1 for group in self.groups)


def compare(runs: Sequence[TrainingRun], sort: str | None = None) -> Comparison:
    """Put runs side by side.

    Args:
        runs: At least one.
        sort: The figure that counts, such as ``val/knn`` or ``val/knn:best``; None: the first of ``val/knn``,
            ``val/pointing`` and ``train/loss`` that there is.

    Raises:
        InputError: No run has this figure.
    """
    found = {figure for run in runs for figure in run.figures}
    figures = [*(name for first in _FIRST for name in (first, first + BEST) if name in found)]
    figures += sorted(found - set(figures))
    if sort is None:
        sort = figures[0] if figures else _FIRST[0]
    elif sort not in found:
        there = f"there are {', '.join(figures)}" if figures else "none of them has any figure"
        raise InputError(f"sort={sort}: no run has this figure; {there}{did_you_mean(sort, figures)}")
    keys = differing([run.settings for run in runs])
    ordered = sorted(runs, key=lambda run: (STATES.index(run.state), _rank(run.figures.get(sort), sort)))
    groups: dict[tuple[str, ...], Group] = {}
    for run in ordered:
        settings = {key: run.settings.get(key) for key in keys if key != SEED}
        if run.state == DONE:
            same = tuple(map(token, settings.values()))
            groups.setdefault(same, Group(settings, [])).runs.append(run)
    by_mean = sorted(groups.values(), key=lambda group: _rank(_mean(group.estimate(sort)), sort))
    return Comparison(keys, figures, sort, ordered, by_mean)


def setting(value: object) -> str:
    """A setting for people."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def figure(value: float | Estimate | None) -> str:
    """A figure for people, with its interval where it has one."""
    if value is None:
        return ""
    if isinstance(value, Estimate):
        return f"{value.mean:.3f}" + ("" if value.half_width is None else f" ± {value.half_width:.3f}")
    return f"{value:.3f}"


def rows_of_runs(what: Comparison, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people, a row for each run, with at most so many settings."""
    figures, keys = _shown(what), what.keys[:most]
    rows = [
        [
            run.name,
            *(setting(run.settings.get(key)) for key in keys),
            run.state,
            "" if run.epochs is None else str(run.epochs),
            *(figure(run.figures.get(name)) for name in figures),
        ]
        for run in what.runs
    ]
    return ["run", *keys, "state", "epochs", *figures], rows


def rows_of_groups(what: Comparison, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: means over seeds with their 95 % intervals, with at most so many settings."""
    figures = _shown(what)
    keys = [key for key in what.keys[:most] if key != SEED]
    rows = [
        [
            *(setting(group.settings[key]) for key in keys),
            str(group.seeds),
            *(figure(group.estimate(name)) for name in figures),
        ]
        for group in what.groups
    ]
    return [*keys, "seeds", *figures], rows


def notes(what: Comparison) -> list[str]:
    """A line for each run that there is more to say about than its state."""
    return [f"{run.name}: {run.state}, {run.note}" for run in what.runs if run.note]


def _shown(what: Comparison) -> list[str]:
    """What fits a terminal: the figure that counts and the usual ones at the end; files have all."""
    wanted = [what.sort, *_FIRST[:3]]
    return list(dict.fromkeys(name for name in wanted if name in what.figures))


def _rank(value: float | None, figure: str) -> tuple[bool, float]:
    if value is None or value != value:
        return True, 0.0
    return False, value if lower_is_better(figure) else -value


def _mean(found: Estimate | None) -> float | None:
    return None if found is None else found.mean
