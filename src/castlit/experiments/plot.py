"""The style of all plots: one dot for each run, a bar for each mean's interval."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from castlit.experiments.estimates import Estimate
from castlit.utils.validation import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
"""Paul Tol's palette, safe for colour-blind readers."""

GREY = "#bbbbbb"

_DOTS: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6, "markersize": 5, "markeredgewidth": 0}
_MEAN: dict[str, Any] = {"color": "#222222", "markersize": 10, "capsize": 3}


def require_matplotlib(who: str) -> None:
    """Check for matplotlib before hours of training.

    Args:
        who: What draws, for the message.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(f'{who} draw with matplotlib: pip install "castlit[study]"') from error


def new_plot(width: float, height: float) -> "Figure":
    """An empty figure, in inches; it needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plot = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(plot)
    return plot


def style_panel(panel: Any, title: str, grid: str = "both") -> None:  # noqa: ANN401
    """Title, grid lines (``both``, ``x`` or ``y``) and small labels."""
    panel.set_title(title, fontsize=9)
    panel.grid(axis=grid, color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_row(panel: Any, row: float, values: Sequence[float], mean: Estimate | None, colour: str) -> None:  # noqa: ANN401
    """Values along the x axis at a height of ``row``, and their mean's interval."""
    panel.plot(values, [row] * len(values), color=colour, **_DOTS)
    if mean is not None:
        panel.errorbar(mean.mean, row, xerr=mean.half_width, fmt="|", **_MEAN)


def draw_column(panel: Any, x: float, values: Sequence[float], mean: Estimate | None, colour: str) -> None:  # noqa: ANN401
    """Values along the y axis at ``x``, and their mean's interval."""
    panel.plot([x] * len(values), values, color=colour, **_DOTS)
    if mean is not None:
        panel.errorbar(x, mean.mean, yerr=mean.half_width, fmt="_", **_MEAN)


def name_rows(panel: Any, names: Sequence[str]) -> None:  # noqa: ANN401
    """Label the rows, the first on top."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(max(len(names), 1) - 0.5, -0.5)


def png(plot: "Figure") -> bytes:
    """The figure as a PNG file's content."""
    file = io.BytesIO()
    plot.savefig(file, format="png")
    return file.getvalue()
