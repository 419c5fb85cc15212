"""A study's config, checked."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from castlit.experiments.study_plan import PlannedRun, plan
from castlit.experiments.study_runner import Evaluations
from castlit.experiments.study_tables import Study
from castlit.utils.validation import InputError, as_list, require_int


class StudySettings(NamedTuple):
    """What ``castlit.study`` needs to know."""

    study: Study
    runs: list[PlannedRun]
    output: Path
    in_percent: Sequence[str]
    """Metrics that the evaluation gives in [0, 100]."""
    prepare: Sequence[Sequence[str]]
    """Programs to run once, before the first run."""
    evaluate: Evaluations
    reuse: Sequence[Path]
    """Folders of other studies."""
    at_once: int
    threads: int | None


def read_study(config: DictConfig) -> StudySettings:
    """Read and check a study's config.

    Raises:
        InputError: A value is not valid.
    """
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for key in ("base", "overrides", "prepare", "in_percent", "evaluate"):
        if not isinstance(given[key], list):
            raise InputError(f"{key} must be a list, got {given[key]!r}")
    arms = given["arms"]
    if not isinstance(arms, dict) or not all(isinstance(each, (list, NoneType)) for each in arms.values()):
        raise InputError("arms must be lists of overrides by name, such as {mocov2: [+experiment=mocov2]}")
    # In YAML a name may be a number, and a configuration without overrides may be null.
    arms = {str(name): [*given["base"], *(overrides or [])] for name, overrides in arms.items()}
    if not all(command and isinstance(command, list) for command in given["prepare"]):
        raise InputError("prepare must be a list of lists, such as [[castlit.make_scenes, output=scenes]]")
    if given["output"] is None:
        raise InputError("output: name the study's folder")
    output = Path(str(given["output"])).expanduser().resolve()
    runs = plan(arms, given["seeds"], given["overrides"], output)
    columns = list(as_list(given["columns"] or []))
    if not columns:
        raise InputError("columns: name the metrics to compare, such as [linear/mixed_rand, knn]")
    return StudySettings(
        study=Study(given["title"], given["about"], columns, _pairs(given["control"], list(arms))),
        runs=runs,
        output=output,
        in_percent=tuple(given["in_percent"]),
        prepare=given["prepare"],
        evaluate=_evaluations(given["evaluations"]) or list(map(str, given["evaluate"])),
        reuse=[Path(str(other)).expanduser().resolve() for other in as_list(given["reuse"] or [])],
        at_once=require_int("at_once", given["at_once"], 1),
        threads=None if given["threads"] is None else require_int("threads", given["threads"], 1),
    )


def _evaluations(given: Any) -> dict[str, list[str]]:  # noqa: ANN401 - any YAML value
    if not isinstance(given, dict):
        raise InputError(f"evaluations must be lists of overrides by name, got {given!r}")
    for name, words in given.items():
        if not re.fullmatch(r"\w[\w-]*", str(name)) or not isinstance(words, list):
            raise InputError(
                f"evaluations.{name}: give a name of letters, digits, _ and -, and a list of overrides, "
                "such as few_labels: [+protocol=finetune, data.root=/data]"
            )
    return {str(name): list(map(str, words)) for name, words in given.items()}


def _pairs(given: Any, names: list[str]) -> list[tuple[str, str]]:  # noqa: ANN401 - any YAML value
    """Pairs of a configuration and its control; a single name is the control of all others."""
    if given is not None and not isinstance(given, list):
        given = [[name, given] for name in names if name != str(given)]
    pairs = []
    for pair in given or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(
                f"control: give a configuration, or a list of pairs [configuration, its control], not {pair}"
            )
        for name in map(str, pair):
            if name not in names:
                raise InputError(f"control: {name} is none of the configurations in arms ({', '.join(names)})")
        pairs.append((str(pair[0]), str(pair[1])))
    return pairs
