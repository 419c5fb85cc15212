"""What a study came to: ``table.csv``, ``table.md``, ``figures.json``, ``plot.png`` and ``report.html``."""

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from castlit.bench.machine import machine
from castlit.experiments.estimates import Estimate, difference, estimates
from castlit.experiments.study_plan import Run
from castlit.experiments.study_plot import draw
from castlit.reporting.html import figure, heading, page, paragraph, sheet
from castlit.utils.atomic_write import write_whole

Figures = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Arm → seed → figures."""

_PICTURES = ("gradcam_epochs.png", "gradcam.png")
"""The first that a run has."""

_DIFFERENCES = "Differences, seed by seed, in points"


class Study(NamedTuple):
    """What a report tells of."""

    title: str
    about: str
    """What was asked, in words."""
    columns: Sequence[str]
    """The figures that matter."""
    pairs: Sequence[tuple[str, str]]
    """Arms that are compared, seed by seed: each and its control."""


def table(study: Study, figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: means with intervals, in per cent; the median of the time in seconds.

    A machine that was busy for a while makes some runs long, and says nothing of the arm.
    """
    header = ["", "seeds", *study.columns, "seconds of training"]
    rows = []
    for arm, seeds in figures.items():
        cells = [_text(estimates(seeds, column), of=len(seeds)) for column in study.columns]
        seconds = [values["seconds"] for values in seeds.values()]
        rows.append([arm, str(len(seeds)), *cells, f"{np.median(seconds):.0f}" if seconds else ""])
    return header, rows


def differences(study: Study, figures: Figures) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows: by how many points arms are above their controls; None where nothing is compared."""
    rows = [
        [
            f"{arm} - {control}",
            *(_text(difference(figures[arm], figures[control], column), signed=True) for column in study.columns),
        ]
        for arm, control in study.pairs
        if arm in figures and control in figures
    ]
    return (["", *study.columns], rows) if rows else None


def write_report(output: Path, study: Study, runs: Sequence[Run], figures: Figures, failed: Mapping[Run, str]) -> Path:
    """Write all files, from whatever is done by now; returns the page's path."""
    header, rows = table(study, figures)
    compared = differences(study, figures)
    write_whole(output / "table.csv", _csv(study, figures).encode())
    write_whole(output / "table.md", _markdown((header, rows), compared).encode())
    write_whole(output / "figures.json", (json.dumps(_plain(study, runs, figures, failed), indent=1) + "\n").encode())
    picture = draw(study.columns, figures)
    write_whole(output / "plot.png", picture)
    done = sum(len(seeds) for seeds in figures.values())
    parts = [
        paragraph(study.about),
        paragraph(
            f"{done} of {len(runs)} runs. Means over seeds with intervals that hold the true mean with a confidence of "
            "95 % (Student's t); shares in per cent. Of the seconds it is the median. Every run counts."
        ),
        html_table(header, rows),
    ]
    if compared:
        parts += [heading(_DIFFERENCES), html_table(*compared)]
    parts += [heading("All seeds"), figure(_decoded(picture), "Each dot is a run; bars are the means' intervals.")]
    pictures = [
        figure(_decoded(found[0].read_bytes()), run.title)
        for run in runs
        # Of finished runs: those that train are at this moment writing theirs.
        if run.seed == runs[0].seed and run.seed in figures.get(run.arm, {})
        if (found := [p for name in _PICTURES if (p := run.folder / name).exists()])
    ]
    if pictures:
        parts += [heading("Where they look, from before training to its end"), sheet(pictures)]
    if failed:
        parts += [heading("Runs that failed"), html_table(["", ""], [[run.title, why] for run, why in failed.items()])]
    write_whole(output / "report.html", page(study.title, parts))
    return output / "report.html"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class=wide><table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"


def _markdown(
    all_arms: tuple[list[str], list[list[str]]],
    compared: tuple[list[str], list[list[str]]] | None,
) -> str:
    """Both tables, to be pasted into a README."""

    def lines(header: list[str], rows: list[list[str]]) -> str:
        ruled = [header, ["---"] * len(header), *rows]
        return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in ruled)

    return lines(*all_arms) + (f"\n{_DIFFERENCES}:\n\n{lines(*compared)}" if compared else "")


def _text(found: Estimate | None, signed: bool = False, of: int | None = None) -> str:
    """A figure for people; where fewer seeds have it than the row says, with their number."""
    if found is None:
        return ""
    fewer = f" (n={found.seeds})" if of is not None and found.seeds < of else ""
    return (f"+{found}" if signed and round(found.mean, 3) > 0 else str(found)) + fewer


def _csv(study: Study, figures: Figures) -> str:
    """One line for each figure of each arm, and of each difference, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "minus", "figure", "mean", "half_width_95", "seeds"])
    for arm, seeds in figures.items():
        for name in _names(seeds):
            writer.writerow([arm, "", name, *(estimates(seeds, name) or ())])
    for arm, control in study.pairs:
        for name in _names(figures[arm]):
            writer.writerow([arm, control, name, *(difference(figures[arm], figures[control], name) or ())])
    return text.getvalue()


def _names(seeds: Mapping[int, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for values in seeds.values() for name in values))


def _plain(study: Study, runs: Sequence[Run], figures: Figures, failed: Mapping[Run, str]) -> dict[str, Any]:
    return {
        "title": study.title,
        "machine": machine(),
        "arms": {run.arm: list(run.overrides) for run in runs},
        "pairs": [list(pair) for pair in study.pairs],
        "figures": {arm: {str(seed): dict(values) for seed, values in seeds.items()} for arm, seeds in figures.items()},
        "failed": {run.title: why for run, why in failed.items()},
    }


def _decoded(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
