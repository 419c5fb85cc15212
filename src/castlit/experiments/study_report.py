"""A study's files: ``table.csv``, ``table.md``, ``figures.json``, ``plot.png`` and ``report.html``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from castlit.bench.machine import machine
from castlit.experiments.estimates import ByConfiguration
from castlit.experiments.page import INTERVALS, image, write_page
from castlit.experiments.study_plan import PlannedRun
from castlit.experiments.study_plot import draw_study
from castlit.experiments.study_tables import CSV_HEADER, Study, csv_rows, differences, means
from castlit.experiments.tables import TextTable, csv_bytes, html_table, markdown
from castlit.reporting.html import heading, paragraph, sheet
from castlit.utils.atomic_write import write_atomic
from castlit.utils.json_files import write_json

_PANELS = ("gradcam_epochs.png", "gradcam.png")
"""A run's Grad-CAM images; the first that exists is shown."""

_DIFFERENCES = "Differences, seed by seed, in points"


def write_report(
    output: Path, study: Study, runs: Sequence[PlannedRun], metrics: ByConfiguration, failed: Mapping[PlannedRun, str]
) -> Path:
    """Write all files from the runs that are done so far, and return the page's path.

    Args:
        output: The study's folder.
        study: What is compared.
        runs: All runs of the study.
        metrics: Of the finished runs.
        failed: Run → why it failed.
    """
    table, compared = means(study, metrics), differences(study, metrics)
    plot = draw_study(study.columns, metrics)
    text = markdown(table) + (f"\n{_DIFFERENCES}:\n\n{markdown(compared)}" if compared else "")
    write_atomic(output / "table.csv", csv_bytes(CSV_HEADER, csv_rows(study, metrics)))
    write_atomic(output / "table.md", text.encode())
    write_json(output / "figures.json", _as_json(study, runs, metrics, failed))
    write_atomic(output / "plot.png", plot)
    done = sum(len(seeds) for seeds in metrics.values())
    parts = [
        paragraph(study.about),
        paragraph(
            f"{done} of {len(runs)} runs. {INTERVALS} Fractions are in per cent; the seconds are a median. "
            "No run is left out."
        ),
        html_table(table),
    ]
    if compared:
        parts += [heading(_DIFFERENCES), html_table(compared)]
    parts += [heading("All seeds"), image(plot, "Each dot is a run; bars are the means' intervals.")]
    panels = _panels(runs, metrics)
    if panels:
        parts += [heading("Grad-CAMs, from before training to its last epoch"), sheet(panels)]
    if failed:
        rows = [[run.title, why] for run, why in failed.items()]
        parts += [heading("Runs that failed"), html_table(TextTable(["", ""], rows))]
    return write_page(output / "report.html", study.title, parts)


def _panels(runs: Sequence[PlannedRun], metrics: ByConfiguration) -> list[str]:
    """The Grad-CAM images of the first seed's finished runs; a running one may be writing its own."""
    shown = []
    for run in runs:
        if run.seed == runs[0].seed and run.seed in metrics.get(run.configuration, {}):
            found = [path for name in _PANELS if (path := run.folder / name).exists()]
            shown += [image(path.read_bytes(), run.title) for path in found[:1]]
    return shown


def _as_json(
    study: Study, runs: Sequence[PlannedRun], metrics: ByConfiguration, failed: Mapping[PlannedRun, str]
) -> dict[str, Any]:
    return {
        "title": study.title,
        "machine": machine(),
        "arms": {run.configuration: list(run.overrides) for run in runs},
        "pairs": [list(pair) for pair in study.pairs],
        "figures": {
            name: {str(seed): dict(values) for seed, values in seeds.items()} for name, seeds in metrics.items()
        },
        "failed": {run.title: why for run, why in failed.items()},
    }
