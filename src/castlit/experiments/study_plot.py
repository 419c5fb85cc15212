"""A study's plot: a panel for each metric, a row for each configuration."""

import math
from collections.abc import Sequence

from castlit.experiments.estimates import ByConfiguration, Estimate, estimates
from castlit.experiments.plot import COLOURS, draw_row, name_rows, new_plot, png, require_matplotlib, style_panel

MIN_SPAN = 8.0
"""Smallest range of a panel's axis, in points: a difference of a tenth of a point must not look large."""

MAX_COLUMNS = 4


def draw_study(columns: Sequence[str], metrics: ByConfiguration, max_columns: int = MAX_COLUMNS) -> bytes:
    """A PNG with a panel for each metric and a row for each configuration.

    Args:
        columns: The metrics, fractions in [0, 1].
        metrics: Configuration → seed → metric → value.
        max_columns: Panels side by side, at most.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib("studies")
    rows = math.ceil(len(columns) / max_columns)
    per_row = math.ceil(len(columns) / rows)
    plot = new_plot(1.6 + 2.6 * per_row, 0.3 + rows * (0.6 + 0.3 * len(metrics)))
    panels = plot.subplots(rows, per_row, sharey=True, squeeze=False).ravel()
    for panel in panels[len(columns) :]:
        panel.set_axis_off()
    for panel, column in zip(panels, columns, strict=False):
        for row, seeds in enumerate(metrics.values()):
            values = [100 * values[column] for values in seeds.values() if column in values]
            draw_row(panel, row, values, _in_percent(estimates(seeds, column)), COLOURS[0])
        low, high = panel.get_xlim()
        missing = max(0.0, MIN_SPAN - (high - low)) / 2
        panel.set_xlim(low - missing, high + missing)
        style_panel(panel, column, grid="x")
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
    name_rows(panels[0], list(metrics))
    plot.supxlabel("per cent", fontsize=8)
    return png(plot)


def _in_percent(found: Estimate | None) -> Estimate | None:
    if found is None:
        return None
    half_width = None if found.half_width is None else 100 * found.half_width
    return Estimate(100 * found.mean, half_width, found.seeds)
