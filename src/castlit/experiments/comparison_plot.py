"""A picture of a comparison: the curves of the figure that counts, and its end against what was swept."""

import io
from typing import Any

from castlit.experiments.comparison_table import Comparison, Group, setting
from castlit.experiments.read_runs import DONE
from castlit.experiments.settings import SEED
from castlit.experiments.study_plot import require_matplotlib

PANELS = 4
"""Swept numbers that get a panel, at most."""

_NAMED, _LONGEST = 12, 45
"""Settings that a legend can hold, and their letters."""

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")  # Paul Tol's, for all eyes
_GREY = "#bbbbbb"

_DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6, "markersize": 5, "markeredgewidth": 0}


def draw(what: Comparison) -> bytes:
    """A PNG: at the left every run's curve over its epochs, then a panel for each swept number (or one for names).

    Dots are runs that are done, bars the means' 95 % intervals.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib("comparisons")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = _swept_numbers(what)[:PANELS]
    panels_right = max(1, len(numbers))
    named = not numbers and len(what.groups) > 0
    height = max(3.6, 0.9 + 0.3 * len(what.groups)) if named else 3.6
    picture = Figure(figsize=(5.2 + 3.2 * panels_right, min(height, 40)), layout="constrained", dpi=110)
    FigureCanvasAgg(picture)
    curves, *ends = picture.subplots(1, 1 + panels_right, width_ratios=[1.5, *[1.0] * panels_right])
    colours = {id(group): _COLOURS[i % len(_COLOURS)] for i, group in enumerate(what.groups)}
    _draw_curves(curves, what, colours)
    if numbers:
        for panel, key in zip(ends, numbers, strict=True):
            _draw_against(panel, what, key, colours)
    else:
        _draw_names(ends[0], what, colours)
    for panel in (curves, *ends):
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    picture.savefig(file, format="png")
    return file.getvalue()


def _swept_numbers(what: Comparison) -> list[str]:
    """Keys that are numbers in all runs that are done, and take several values there."""
    found = []
    for key in what.keys:
        values = [group.settings[key] for group in what.groups if key != SEED]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            found += [key] if len({float(value) for value in values}) > 1 else []
    return found


def _draw_curves(panel: Any, what: Comparison, colours: dict[int, str]) -> None:  # noqa: ANN401
    of_group = {id(run): group for group in what.groups for run in group.runs}
    named: set[int] = set()
    names = [_name(group) for group in what.groups]
    legend = 1 < len(names) <= _NAMED and max(map(len, names)) <= _LONGEST
    for run in what.runs:
        curve = run.curves.get(what.main, {})
        group = of_group.get(id(run))
        label = None
        if group is not None and legend and id(group) not in named and curve:
            label = _name(group)
            named.add(id(group))
        style = {"color": colours[id(group)]} if group is not None else {"color": _GREY, "linestyle": "--"}
        epochs = sorted(curve)
        panel.plot(epochs, [curve[epoch] for epoch in epochs], marker="o", markersize=3, label=label, **style)
    if any(run.state != DONE and run.curves.get(what.main) for run in what.runs):
        panel.plot([], [], color=_GREY, linestyle="--", label="not done")
    if panel.get_legend_handles_labels()[1]:
        panel.legend(fontsize=7, frameon=False)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlabel("epochs", fontsize=8)
    panel.set_title(what.main, fontsize=9)


def _draw_against(panel: Any, what: Comparison, key: str, colours: dict[int, str]) -> None:  # noqa: ANN401
    for group in what.groups:
        values, at = group.values(what.sort), float(group.settings[key])
        panel.plot([at] * len(values), values, color=colours[id(group)], **_DOTS)
        found = group.estimate(what.sort)
        if found is not None and found.half_width is not None:
            panel.errorbar(at, found.mean, yerr=found.half_width, fmt="_", color="#222222", markersize=10, capsize=3)
    places = [float(group.settings[key]) for group in what.groups]
    # Rates and the like, which are swept by factors; not 0, 1, 3.
    if min(places) > 0 and max(places) / min(places) >= 10:
        panel.set_xscale("log")
    panel.set_xlabel(key.replace(".", ".\n"), fontsize=8)
    panel.set_title(what.sort if what.sort != what.main else f"{what.sort} at the end", fontsize=9)


def _draw_names(panel: Any, what: Comparison, colours: dict[int, str]) -> None:  # noqa: ANN401
    for i, group in enumerate(what.groups):
        values = group.values(what.sort)
        panel.plot(values, [i] * len(values), color=colours[id(group)], **_DOTS)
        found = group.estimate(what.sort)
        if found is not None and found.half_width is not None:
            panel.errorbar(found.mean, i, xerr=found.half_width, fmt="|", color="#222222", markersize=10, capsize=3)
    panel.set_yticks(range(len(what.groups)), [_name(group) for group in what.groups])
    panel.set_ylim(max(len(what.groups), 1) - 0.5, -0.5)
    panel.set_title(what.sort if what.sort != what.main else f"{what.sort} at the end", fontsize=9)


def _name(group: Group) -> str:
    if len(group.settings) == 1:
        return setting(next(iter(group.settings.values()))) or "null"
    return ", ".join(f"{key.rpartition('.')[2]}={setting(value)}" for key, value in group.settings.items()) or "all"
