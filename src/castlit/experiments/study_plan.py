"""The runs of a study: each configuration with each seed, each run in its own folder."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from castlit.utils.validation import InputError, require_int

_RESERVED = ("seed", "hydra.run.dir", "resume")
"""Overrides that the study sets itself."""


class PlannedRun(NamedTuple):
    """One training and its evaluation."""

    configuration: str
    seed: int
    overrides: tuple[str, ...]
    """Of ``castlit.train``, without seed and folder."""
    folder: Path

    @property
    def title(self) -> str:
        """The run's name in tables and messages."""
        return f"{self.configuration}, seed {self.seed}"


def plan(
    arms: Mapping[str, Sequence[str]], seeds: int | Sequence[int], common: Sequence[str], output: Path
) -> list[PlannedRun]:
    """List a study's runs, one seed after the other: an interrupted study then has complete seeds.

    Args:
        arms: Configuration name → its overrides of ``castlit.train``.
        seeds: The seeds, or their number, counted from 0.
        common: Overrides of every run; they come last.
        output: The study's folder.

    Raises:
        InputError: There is nothing to run, or a seed, a name or an override is not valid.
    """
    numbers = list(seeds) if isinstance(seeds, (list, tuple)) else list(range(require_int("seeds", seeds, 1)))
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds must be a number, or a list of different ones, got {seeds!r}")
    if not arms:
        raise InputError("arms: a study needs at least one configuration")
    for name, overrides in arms.items():
        if not re.fullmatch(r"(?!\.+$)[\w.+-]+", name):
            raise InputError(f"arms.{name}: names may have letters, digits, ., _, + and - only: they name folders")
        for word in [*overrides, *common]:
            key = str(word).partition("=")[0].lstrip("+~")
            if "=" not in str(word) or key in _RESERVED:
                raise InputError(f"arms.{name}: {word!r} is no override that a study can give to each of its runs")
    return [
        PlannedRun(
            name,
            require_int("seeds", seed, 0),
            (*map(str, overrides), *map(str, common)),
            output / "runs" / name / f"seed_{seed}",
        )
        for seed in numbers
        for name, overrides in arms.items()
    ]
