"""A comparison's files: ``compare.csv``, ``compare.json``, ``compare.png`` and ``compare.html``."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from castlit.experiments.comparison import Comparison
from castlit.experiments.comparison_plot import draw_comparison
from castlit.experiments.comparison_tables import group_table, notes, run_table
from castlit.experiments.page import INTERVALS, image, write_page
from castlit.experiments.run_settings import SEED
from castlit.experiments.tables import csv_bytes, html_table
from castlit.reporting.html import heading, paragraph
from castlit.utils.atomic_write import write_atomic
from castlit.utils.json_files import write_json


def write_comparison(output: Path, what: Comparison, of: Sequence[str]) -> Path:
    """Write all files and return the page's path.

    Args:
        output: A folder; created if needed.
        what: The comparison.
        of: The folders compared, as typed.

    Raises:
        InputError: matplotlib is not installed; the first two files are written.
        OSError: A file cannot be written.
    """
    header = ["run", "folder", *what.keys, "state", "note", "epochs", "seconds", *what.metrics]
    write_atomic(output / "compare.csv", csv_bytes(header, _csv_rows(what)))
    write_json(output / "compare.json", _as_json(what))
    plot = draw_comparison(what)
    write_atomic(output / "compare.png", plot)
    about = "Metrics are those at the end of training, or the best over its epochs (:best)."
    parts = [paragraph(f"{len(what.runs)} runs, sorted by {what.sort}. {about}")]
    if what.several_seeds:
        parts += [heading("Settings"), paragraph(INTERVALS), html_table(group_table(what))]
    parts += [heading("Runs"), html_table(run_table(what)), *map(paragraph, notes(what))]
    parts.append(image(plot, "Lines and dots are runs; bars are the means' intervals."))
    return write_page(output / "compare.html", f"Comparison of {', '.join(of)}", parts)


def _csv_rows(what: Comparison) -> Iterator[list[Any]]:
    """A row for each run, unrounded."""
    for run in what.runs:
        settings = [_cell(run.settings.get(key)) for key in what.keys]
        metrics = [run.metrics.get(name, "") for name in what.metrics]
        yield [run.name, run.folder, *settings, run.state, run.note, run.epochs, _cell(run.seconds), *metrics]


def _cell(value: Any) -> Any:  # noqa: ANN401
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else value


def _as_json(what: Comparison) -> dict[str, Any]:
    return {
        "sort": what.sort,
        "keys": what.keys,
        "runs": [
            {
                "run": run.name,
                "folder": str(run.folder),
                "settings": {key: run.settings.get(key) for key in what.keys},
                "state": run.state,
                "note": run.note,
                "epochs": run.epochs,
                "seconds": run.seconds,
                "figures": {name: _finite(value) for name, value in run.metrics.items()},
                "curves": {
                    name: {str(epoch): _finite(value) for epoch, value in curve.items()}
                    for name, curve in run.curves.items()
                },
            }
            for run in what.runs
        ],
        "groups": [
            {
                "settings": group.settings,
                "seeds": sorted({run.settings.get(SEED) for run in group.runs}, key=str),
                "runs": [run.name for run in group.runs],
                "figures": {
                    name: {"mean": _finite(found.mean), "half_width_95": _finite(found.half_width)}
                    for name in what.metrics
                    if (found := group.estimate(name)) is not None
                },
            }
            for group in what.groups
        ],
    }


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
