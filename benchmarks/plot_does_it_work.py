"""Draw docs/does_it_work.png from the committed studies: one panel for each question, one dot for each run.

python benchmarks/plot_does_it_work.py
"""

import json
from pathlib import Path

from castlit.experiments.estimates import estimate
from castlit.experiments.plot import COLOURS, draw_row, name_rows, new_plot, png, style_panel

ROOT = Path(__file__).parents[1]

# Title, study, metric, and name → configuration.
PANELS = [
    (
        "Scenes: accuracy where backgrounds\ndo not go with objects, %",
        "study_cast.json",
        "linear/mixed_rand",
        {"MoCo v2": "mocov2", "MoCo v2, equal time": "mocov2_longer", "CAST": "cast_mocov2"},
    ),
    (
        "Photographs: 20 classes of VOC,\nmAP, %",
        "study_photographs.json",
        "voc07/mAP",
        {"MoCo v2": "mocov2", "CAST": "cast_mocov2"},
    ),
    (
        "Photographs: pooled features\npoint at the object, %",
        "study_photographs.json",
        "grounding/features/pointing",
        {"MoCo v2": "mocov2", "CAST": "cast_mocov2"},
    ),
]


def main():
    plot = new_plot(9, 2.2)
    for panel, (title, file, metric, names) in zip(plot.subplots(1, len(PANELS)), PANELS, strict=True):
        seeds = json.loads((ROOT / "benchmarks" / "results" / file).read_text())["figures"]
        for row, (title_of_row, name) in enumerate(names.items()):
            values = [100 * found[metric] for found in seeds[name].values()]
            draw_row(panel, row, values, estimate(values), COLOURS[title_of_row.startswith("CAST")])
        name_rows(panel, list(names))
        style_panel(panel, title, grid="x")
        panel.set_xlim(0, 1.08 * panel.get_xlim()[1])
    (ROOT / "docs" / "does_it_work.png").write_bytes(png(plot))


if __name__ == "__main__":
    main()
