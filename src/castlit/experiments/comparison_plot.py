"""A comparison's plot: the curves of the metric to sort by, and its final values against what was swept."""

from typing import Any

from castlit.experiments.comparison import Comparison, Group
from castlit.experiments.comparison_tables import setting_text
from castlit.experiments.estimates import Estimate
from castlit.experiments.plot import (
    COLOURS,
    GREY,
    draw_column,
    draw_row,
    name_rows,
    new_plot,
    png,
    require_matplotlib,
    style_panel,
)
from castlit.experiments.read_runs import DONE
from castlit.experiments.run_settings import SEED

MAX_PANELS = 4
"""Swept numbers that get a panel."""

_MAX_NAMES, _MAX_LENGTH = 12, 45
"""Names that fit in a legend, and their length."""


def draw_comparison(what: Comparison) -> bytes:
    """A PNG: every run's curve over its epochs, then a panel for each swept number, or one with a row for each group.

    Dots are finished runs, bars the means' 95 % intervals.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib("comparisons")
    numbers = _swept_numbers(what)[:MAX_PANELS]
    panels_right = max(1, len(numbers))
    height = 3.6 if numbers or not what.groups else max(3.6, 0.9 + 0.3 * len(what.groups))
    plot = new_plot(5.2 + 3.2 * panels_right, min(height, 40))
    curves, *ends = plot.subplots(1, 1 + panels_right, width_ratios=[1.5, *[1.0] * panels_right])
    colours = {id(group): COLOURS[i % len(COLOURS)] for i, group in enumerate(what.groups)}
    _draw_curves(curves, what, colours)
    style_panel(curves, what.main)
    if numbers:
        for panel, key in zip(ends, numbers, strict=True):
            _draw_against(panel, what, key, colours)
    else:
        for row, group in enumerate(what.groups):
            draw_row(ends[0], row, group.values(what.sort), _interval(group, what.sort), colours[id(group)])
        name_rows(ends[0], [_name(group) for group in what.groups])
    for panel in ends:
        style_panel(panel, what.sort if what.sort != what.main else f"{what.sort} at the end")
    return png(plot)


def _swept_numbers(what: Comparison) -> list[str]:
    """The keys that have several values in finished runs, all of them numbers."""
    found = []
    for key in what.keys:
        values = [group.settings[key] for group in what.groups if key != SEED]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            found += [key] if len({float(value) for value in values}) > 1 else []
    return found


def _draw_curves(panel: Any, what: Comparison, colours: dict[int, str]) -> None:  # noqa: ANN401
    of_group = {id(run): group for group in what.groups for run in group.runs}
    labelled: set[int] = set()
    names = [_name(group) for group in what.groups]
    legend = 1 < len(names) <= _MAX_NAMES and max(map(len, names)) <= _MAX_LENGTH
    for run in what.runs:
        curve = run.curves.get(what.main, {})
        group = of_group.get(id(run))
        label = None
        if group is not None and legend and id(group) not in labelled and curve:
            label = _name(group)
            labelled.add(id(group))
        style = {"color": colours[id(group)]} if group is not None else {"color": GREY, "linestyle": "--"}
        epochs = sorted(curve)
        panel.plot(epochs, [curve[epoch] for epoch in epochs], marker="o", markersize=3, label=label, **style)
    if any(run.state != DONE and run.curves.get(what.main) for run in what.runs):
        panel.plot([], [], color=GREY, linestyle="--", label="not done")
    if panel.get_legend_handles_labels()[1]:
        panel.legend(fontsize=7, frameon=False)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("epochs", fontsize=8)


def _draw_against(panel: Any, what: Comparison, key: str, colours: dict[int, str]) -> None:  # noqa: ANN401
    for group in what.groups:
        x = float(group.settings[key])
        draw_column(panel, x, group.values(what.sort), _interval(group, what.sort), colours[id(group)])
    places = [float(group.settings[key]) for group in what.groups]
    # Learning rates and the like, which are swept by factors; not 0, 1, 3.
    if min(places) > 0 and max(places) / min(places) >= 10:
        panel.set_xscale("log")
    panel.set_xlabel(key.replace(".", ".\n"), fontsize=8)


def _interval(group: Group, metric: str) -> Estimate | None:
    """The mean of several seeds; a single seed has no interval."""
    found = group.estimate(metric)
    return None if found is None or found.half_width is None else found


def _name(group: Group) -> str:
    if len(group.settings) == 1:
        return setting_text(next(iter(group.settings.values()))) or "null"
    return (
        ", ".join(f"{key.rpartition('.')[2]}={setting_text(value)}" for key, value in group.settings.items()) or "all"
    )
