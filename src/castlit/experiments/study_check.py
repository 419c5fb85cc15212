"""Compose what a study's runs will be started with, before the first run: a mistyped key costs no training."""

from collections.abc import Sequence

from castlit.cli.compose_check import why_refused
from castlit.experiments.read_runs import is_evaluated
from castlit.experiments.study_plan import PlannedRun
from castlit.experiments.study_runner import Evaluations
from castlit.utils.validation import InputError


def check_commands(runs: Sequence[PlannedRun], evaluations: Evaluations) -> None:
    """Compose each configuration's training, and each evaluation, if runs are left to do.

    Args:
        runs: The study's.
        evaluations: Overrides of ``castlit.evaluate``: those of the only evaluation, or of several by name.

    Raises:
        InputError: One of them does not compose: a key or an option does not exist.
    """
    left = {run.configuration: run.overrides for run in runs if not is_evaluated(run.folder)}
    for name, overrides in left.items():
        _check(f"arms.{name}", "train", overrides)
    if left:
        by_key = (
            {f"evaluations.{name}": words for name, words in evaluations.items()}
            if isinstance(evaluations, dict)
            else {"evaluate": evaluations}
        )
        for key, words in by_key.items():
            _check(key, "evaluate", [*words, "checkpoint=random"])


def _check(key: str, program: str, overrides: Sequence[str]) -> None:
    line = why_refused(program, overrides)
    if line is not None:
        raise InputError(f"{key}: castlit.{program} would refuse it: {line}")
