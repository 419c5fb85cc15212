"""A picture of a study: every run a dot, every mean with its interval."""

import io
import math
from collections.abc import Mapping, Sequence

from castlit.experiments.estimates import estimates
from castlit.utils.validation import InputError

LEAST_SPAN = 8.0
"""Points that a panel's axis shows at least: what differs by a tenth of a point looks like nothing, which it is."""

MOST_IN_A_ROW = 4
"""Panels."""


def require_matplotlib(who: str = "studies") -> None:
    """Find out before hours of training that there will be no picture.

    Args:
        who: What draws, for the message.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(f'{who} draw with matplotlib: pip install "castlit[study]"') from error


def draw(columns: Sequence[str], figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> bytes:
    """A PNG with a panel for each figure and a line for each arm.

    Args:
        columns: The figures, shares in [0, 1].
        figures: Arm → seed → figures.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = list(figures)
    rows = math.ceil(len(columns) / MOST_IN_A_ROW)
    in_a_row = math.ceil(len(columns) / rows)
    size = (1.6 + 2.6 * in_a_row, 0.3 + rows * (0.6 + 0.3 * len(arms)))
    picture = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(picture)
    panels = picture.subplots(rows, in_a_row, sharey=True, squeeze=False).ravel()
    for panel in panels[len(columns) :]:
        panel.set_axis_off()
    for panel, column in zip(panels, columns, strict=False):
        for i, arm in enumerate(arms):
            values = [100 * seed[column] for seed in figures[arm].values() if column in seed]
            panel.plot(values, [i] * len(values), "o", color="#4477aa", alpha=0.5, markersize=5, markeredgewidth=0)
            found = estimates(figures[arm], column)
            if found is not None:
                bar = None if found.half_width is None else 100 * found.half_width
                panel.errorbar(100 * found.mean, i, xerr=bar, fmt="|", color="#222222", markersize=11, capsize=2)
        low, high = panel.get_xlim()
        missing = max(0.0, LEAST_SPAN - (high - low)) / 2
        panel.set_xlim(low - missing, high + missing)
        panel.set_title(column, fontsize=9)
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    picture.supxlabel("per cent", fontsize=8)
    file = io.BytesIO()
    picture.savefig(file, format="png")
    return file.getvalue()
