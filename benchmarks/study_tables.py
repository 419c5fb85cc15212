"""Print the tables of a study's page, from the committed results of castlit.study.

python benchmarks/study_tables.py attention_photographs voc07/mAP grounding/features/pointing

Means, then differences, with the metrics that are named, or with all of them as docs/studies/all_metrics.md has them.
tests/experiments/test_published.py checks that the pages agree.
"""

import argparse
import json
from pathlib import Path

import yaml

from castlit.experiments.study_tables import Study, differences, means

ROOT = Path(__file__).parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="as in conf/study and benchmarks/results/study_NAME.json")
    parser.add_argument("metrics", nargs="*")
    given = parser.parse_args()
    config = yaml.safe_load((ROOT / "conf" / "study" / f"{given.study}.yaml").read_text())
    found = json.loads((ROOT / "benchmarks" / "results" / f"study_{given.study}.json").read_text())
    study = Study(found["title"], config["about"], config["columns"], found["pairs"])
    metrics = {arm: {int(seed): values for seed, values in seeds.items()} for arm, seeds in found["figures"].items()}
    for header, rows in (means(study, metrics), differences(study, metrics)):
        chosen = [0, *(map(header.index, given.metrics) if given.metrics else range(1, len(header)))]
        for cells in ([header[i] for i in chosen], ["---"] * len(chosen), *([row[i] for i in chosen] for row in rows)):
            print(f"| {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
