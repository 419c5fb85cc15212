"""Draw docs/study_*.png from the committed studies: the metrics that their pages show, two panels side by side.

python benchmarks/plot_studies.py
"""

import json
from pathlib import Path

from castlit.experiments.study_plot import draw_study

ROOT = Path(__file__).parents[1]

SCENES = ["linear/mixed_rand", "object_information", "knn", "pointing/mixed_rand"]
COLUMNS = {
    "cast": SCENES,
    "ablations": SCENES,
    "attention_scenes": SCENES,
    "attention_photographs": [
        "voc07/mAP",
        "grounding/pretext/pointing",
        "grounding/pretext_shuffled_keys/pointing",
        "grounding/features/pointing",
    ],
    "photographs": ["voc07/mAP", "grounding/pretext/pointing", "grounding/features/pointing"],
}
"""Study → the metrics of its page."""


def main():
    for name, columns in COLUMNS.items():
        figures = json.loads((ROOT / "benchmarks" / "results" / f"study_{name}.json").read_text())["figures"]
        metrics = {arm: {int(seed): found for seed, found in seeds.items()} for arm, seeds in figures.items()}
        (ROOT / "docs" / f"study_{name}.png").write_bytes(draw_study(columns, metrics, max_columns=2))


if __name__ == "__main__":
    main()
