"""Draw docs/study_attention_methods.png from the committed study: each method alone, with CAST and with evidence.

python benchmarks/plot_methods.py
"""

import json
from pathlib import Path

from castlit.experiments.estimates import estimate
from castlit.experiments.plot import COLOURS, draw_row, name_rows, new_plot, png, style_panel

ROOT = Path(__file__).parents[1]

# Name → configurations: alone, with the paper's CAST, with CAST's evidence.
METHODS = {
    "MoCo v1": ("mocov1", "cast_mocov1", "mocov1_evidence"),
    "MoCo v2": ("mocov2", "cast_mocov2", "mocov2_evidence"),
    "MoCo v3": ("mocov3", "cast_mocov3", "mocov3_evidence"),
    "DenseCL": ("densecl", "cast_densecl", "densecl_evidence"),
    "SimCLR, λ = 1": ("simclr", "cast_simclr", "simclr_evidence"),
    "SimCLR, λ = 3": ("simclr", "simclr_weight_3", "simclr_evidence_weight_3"),
    "BYOL": ("byol", "cast_byol", "byol_evidence"),
    "SimSiam": ("simsiam", "cast_simsiam", "simsiam_evidence"),
    "VICReg": ("vicreg", "cast_vicreg", "vicreg_evidence"),
}
PANELS = {
    "linear/mixed_rand": "accuracy where backgrounds mislead, %\n(chance 10)",
    "object_information": "the same, trained on such scenes, %\n(what features know of the object)",
}


def main():
    figures = json.loads((ROOT / "benchmarks" / "results" / "study_attention_methods.json").read_text())["figures"]
    plot = new_plot(9, 4)
    panels = plot.subplots(1, len(PANELS), sharey=True)
    for panel, (metric, title) in zip(panels, PANELS.items(), strict=True):
        for row, configurations in enumerate(METHODS.values()):
            for offset, configuration, colour in zip((-0.25, 0, 0.25), configurations, COLOURS, strict=False):
                values = [100 * found[metric] for found in figures[configuration].values()]
                draw_row(panel, row + offset, values, estimate(values), colour)
        style_panel(panel, title, grid="x")
        panel.set_xlim(0, 100)
    name_rows(panels[0], list(METHODS))
    for name, colour in zip(("alone", "CAST, the paper's score", "CAST, evidence"), COLOURS, strict=False):
        panels[0].plot([], [], "o", color=colour, label=name)
    plot.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    (ROOT / "docs" / "study_attention_methods.png").write_bytes(png(plot))


if __name__ == "__main__":
    main()
