"""A picture of a study: every run a dot, every mean with its interval."""

import io
from collections.abc import Mapping, Sequence

from castlit.nn.checks import InputError
from castlit.studies.figures import estimates


def draw(columns: Sequence[str], figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> bytes:
    """A PNG with a panel for each figure and a line for each arm.

    Args:
        columns: The figures, shares in [0, 1].
        figures: Arm → seed → figures.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError('studies draw with matplotlib: pip install "castlit[study]"') from error
    arms = list(figures)
    picture = Figure(figsize=(1.6 + 2.4 * len(columns), 0.9 + 0.34 * len(arms)), layout="constrained", dpi=110)
    FigureCanvasAgg(picture)
    panels = picture.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        for i, arm in enumerate(arms):
            values = [100 * seed[column] for seed in figures[arm].values() if column in seed]
            panel.plot(values, [i] * len(values), "o", color="#4477aa", alpha=0.45, markersize=4, markeredgewidth=0)
            found = estimates(figures[arm], column)
            if found is not None:
                bar = None if found.half_width is None else 100 * found.half_width
                panel.errorbar(100 * found.mean, i, xerr=bar, fmt="|", color="#222222", markersize=11, capsize=3)
        panel.set_title(column, fontsize=9)
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    picture.supxlabel("per cent", fontsize=8)
    file = io.BytesIO()
    picture.savefig(file, format="png")
    return file.getvalue()
