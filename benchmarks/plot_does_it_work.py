"""Draw docs/does_it_work.png from the committed studies: one panel for each question, one dot for each run.

python benchmarks/plot_does_it_work.py
"""

import json
from pathlib import Path

from castlit.experiments.estimates import estimate
from castlit.experiments.plot import COLOURS, GREY, draw_row, name_rows, new_plot, png, style_panel

ROOT = Path(__file__).parents[1]

ROWS = {
    "MoCo v2": "mocov2",
    "MoCo v2, equal time": "mocov2_longer",
    "CAST": "cast_mocov2",
    "CAST, evidence": "evidence_signed",
}
"""Name → configuration, in both studies."""

# Title, study, metric, and a baseline: its name, configuration and metric.
PANELS = [
    (
        "Scenes: accuracy where\nbackgrounds mislead, %",
        "study_attention_scenes.json",
        "linear/mixed_rand",
        None,
    ),
    (
        "Photographs: 20 classes of VOC,\nmAP, %",
        "study_attention_photographs.json",
        "voc07/mAP",
        ("untrained", "untrained", "voc07/mAP"),
    ),
    (
        "Photographs: pooled features\npoint at the object, %",
        "study_attention_photographs.json",
        "grounding/features/pointing",
        ("a Gaussian\nin the centre", "mocov2", "grounding/a Gaussian in the centre/pointing"),
    ),
]


def main():
    plot = new_plot(9, 2.4)
    panels = plot.subplots(1, len(PANELS), sharey=True)
    for panel, (title, file, metric, baseline) in zip(panels, PANELS, strict=True):
        seeds = json.loads((ROOT / "benchmarks" / "results" / file).read_text())["figures"]

        def values(configuration, metric, seeds=seeds):
            return [100 * found[metric] for found in seeds[configuration].values()]

        for row, (name, configuration) in enumerate(ROWS.items()):
            found = values(configuration, metric)
            draw_row(panel, row, found, estimate(found), COLOURS[name.startswith("CAST")])
        if baseline is not None:
            name, *what = baseline
            mean = estimate(values(*what)).mean
            panel.axvline(mean, color=GREY, linestyle="--")
            panel.text(mean, -0.4, f"{name} ", color="#777777", fontsize=7, ha="right", va="top")
        style_panel(panel, title, grid="x")
    for panel in (panels[0], panels[2]):
        panel.set_xlim(left=0)
    panels[1].set_xlim(left=16)
    name_rows(panels[0], list(ROWS))
    (ROOT / "docs" / "does_it_work.png").write_bytes(png(plot))


if __name__ == "__main__":
    main()
