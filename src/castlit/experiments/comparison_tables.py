"""A comparison's tables: a row for each run, or for each group of seeds."""

from rich.console import Console

from castlit.experiments.comparison import USUAL, Comparison
from castlit.experiments.estimates import Estimate, fewer_seeds
from castlit.experiments.run_settings import SEED
from castlit.experiments.tables import TextTable
from castlit.reporting.tables import print_wide

MAX_KEYS = 6
"""Settings in a printed table; the files have all."""


def run_table(what: Comparison, max_keys: int | None = None) -> TextTable:
    """A row for each run, with at most ``max_keys`` settings."""
    metrics, keys = _shown(what), what.keys[:max_keys]
    rows = [
        [
            run.name,
            *(setting_text(run.settings.get(key)) for key in keys),
            run.state,
            "" if run.epochs is None else str(run.epochs),
            *(_metric_text(run.metrics.get(name)) for name in metrics),
        ]
        for run in what.runs
    ]
    return TextTable(["run", *keys, "state", "epochs", *metrics], rows)


def group_table(what: Comparison, max_keys: int | None = None) -> TextTable:
    """A row for each group: means over seeds with 95 % intervals, with at most ``max_keys`` settings."""
    metrics = _shown(what)
    keys = [key for key in what.keys[:max_keys] if key != SEED]
    rows = [
        [
            *(setting_text(group.settings[key]) for key in keys),
            str(group.seeds),
            *(_metric_text(group.estimate(name), group.seeds) for name in metrics),
        ]
        for group in what.groups
    ]
    return TextTable([*keys, "seeds", *metrics], rows)


def notes(what: Comparison) -> list[str]:
    """A line for each run with a note on its state."""
    return [f"{run.name}: {run.state}, {run.note}" for run in what.runs if run.note]


def print_comparison(console: Console, what: Comparison) -> None:
    """Print the tables, with at most :data:`MAX_KEYS` settings."""
    print_wide(console, f"{len(what.runs)} runs by {what.sort}", *run_table(what, MAX_KEYS))
    for note in notes(what):
        console.print(note, markup=False)
    if what.several_seeds:
        print_wide(console, "Means over seeds, with 95 % intervals", *group_table(what, MAX_KEYS))
    if len(what.keys) > MAX_KEYS:
        console.print(f"They also differ in {', '.join(what.keys[MAX_KEYS:])}", markup=False)


def setting_text(value: object) -> str:
    """A setting as a cell."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metric_text(value: float | Estimate | None, expected: int = 1) -> str:
    if value is None:
        return ""
    if isinstance(value, Estimate):
        interval = "" if value.half_width is None else f" ± {value.half_width:.3f}"
        return f"{value.mean:.3f}{interval}{fewer_seeds(value, expected)}"
    return f"{value:.3f}"


def _shown(what: Comparison) -> list[str]:
    """The metrics that fit a terminal: the one to sort by and the usual ones at the end; the files have all."""
    return list(dict.fromkeys(name for name in (what.sort, *USUAL[:3]) if name in what.metrics))
