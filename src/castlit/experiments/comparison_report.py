"""A comparison's files: ``compare.csv``, ``compare.json``, ``compare.png`` and ``compare.html``."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from castlit.experiments.comparison_plot import draw
from castlit.experiments.comparison_table import Comparison, notes, rows_of_groups, rows_of_runs
from castlit.experiments.settings import SEED
from castlit.experiments.study_report import html_table
from castlit.reporting.html import figure, heading, page, paragraph
from castlit.utils.atomic_write import write_whole


def write_comparison(output: Path, what: Comparison, of: Sequence[str]) -> Path:
    """Write all files; returns the page's path.

    Args:
        output: A folder; made if need be.
        what: The comparison.
        of: What was given to compare, as it was typed.

    Raises:
        InputError: matplotlib is not installed; the first two files are written.
        OSError: A file cannot be written.
    """
    write_whole(output / "compare.csv", _csv(what).encode())
    write_whole(output / "compare.json", (json.dumps(_plain(what), indent=1, allow_nan=False) + "\n").encode())
    picture = draw(what)
    write_whole(output / "compare.png", picture)
    about = "Figures are those at the end of training, or the best over its epochs (:best)."
    parts = [paragraph(f"{len(what.runs)} runs, sorted by {what.sort}. {about}")]
    if what.several_seeds:
        about = "Means over seeds, with intervals that hold the true mean with a confidence of 95 % (Student's t)."
        parts += [heading("Settings"), paragraph(about), html_table(*rows_of_groups(what))]
    parts += [heading("Runs"), html_table(*rows_of_runs(what)), *map(paragraph, notes(what))]
    with Image.open(io.BytesIO(picture)) as opened:
        plot = np.asarray(opened.convert("RGB"))
    parts.append(figure(plot, "Lines and dots are runs; bars are the means' intervals."))
    write_whole(output / "compare.html", page(f"Comparison of {', '.join(of)}", parts))
    return output / "compare.html"


def _csv(what: Comparison) -> str:
    """A row for each run, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "folder", *what.keys, "state", "note", "epochs", "seconds", *what.figures])
    for run in what.runs:
        settings = [_cell(run.settings.get(key)) for key in what.keys]
        figures = [run.figures.get(name, "") for name in what.figures]
        writer.writerow(
            [run.name, run.folder, *settings, run.state, run.note, run.epochs, _cell(run.seconds), *figures]
        )
    return text.getvalue()


def _cell(value: Any) -> Any:  # noqa: ANN401
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else value


def _plain(what: Comparison) -> dict[str, Any]:
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
                "figures": {name: _finite(value) for name, value in run.figures.items()},
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
                    for name in what.figures
                    if (found := group.estimate(name)) is not None
                },
            }
            for group in what.groups
        ],
    }


def _finite(value: float | None) -> float | None:
    """JSON has no word for what is not finite."""
    return value if value is not None and math.isfinite(value) else None
