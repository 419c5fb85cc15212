"""Put the finished runs of a study's figures.json back into its folder: castlit.study then does the missing ones.

    python benchmarks/restore_study.py figures.json study=attention_tiny100 tiny=/tiny voc=/VOCdevkit …

The words after the file are those of castlit.study. It continues a study on another machine, from its figures alone:
each run gets its figures, without checkpoint and curves. Paths may differ from those of the other machine; other words
of a configuration may not. The file does not say how the runs were evaluated: use the same study.
"""

import json
import sys
from pathlib import Path

from castlit.cli.app import program
from castlit.cli.overrides import PATH_KEYS
from castlit.experiments.read_runs import RESULTS, is_evaluated
from castlit.experiments.study_runner import PLAN, plan_of
from castlit.experiments.study_settings import read_study
from castlit.utils.json_files import write_json
from castlit.utils.validation import InputError


def without_paths(words):
    """Overrides, without the values that are paths: they may differ on another machine."""
    return [
        key if is_path(key, value) else f"{key}={value}" for key, _, value in (word.partition("=") for word in words)
    ]


def is_path(key, value):
    named = value.startswith(("timm/", "torchvision/"))
    return key.lstrip("+").rpartition(".")[2] in PATH_KEYS and "/" in value and not named


def restore(run, figures, settings):
    """Write the files that castlit.study reads of a finished run."""
    trained = {name: {"end": value} for name, value in figures.items() if name.startswith("val/")}
    results = {
        name: 100 * value if name in settings.in_percent else value
        for name, value in figures.items()
        if name not in trained and name != "seconds"
    }
    write_json(run.folder / PLAN, plan_of(run, settings.evaluate))
    write_json(run.folder / "summary.json", {"metrics": trained, "seconds": figures["seconds"]})
    write_json(run.folder / RESULTS, {"results": results})


def main():
    file = Path(sys.argv.pop(1))
    saved = json.loads(file.read_text())

    def restore_missing(config):
        settings = read_study(config)
        restored = 0
        for run in settings.runs:
            figures = saved["figures"].get(run.configuration, {}).get(str(run.seed))
            if figures is None or is_evaluated(run.folder):
                continue
            if without_paths(saved["arms"][run.configuration]) != without_paths(run.overrides):
                raise InputError(f"{file} has {run.title} with other words than {' '.join(run.overrides)}")
            restore(run, figures, settings)
            restored += 1
        print(f"{restored} of {len(settings.runs)} runs restored below {settings.output}")

    program("study", restore_missing)


if __name__ == "__main__":
    main()
