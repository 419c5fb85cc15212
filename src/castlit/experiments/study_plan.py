"""What a study runs: each arm with each seed, in a folder of its own."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from castlit.utils.validation import InputError, require_int

_OWN = ("seed", "hydra.run.dir", "resume")
"""Overrides that the study gives itself."""


class Run(NamedTuple):
    """One training and its evaluation."""

    arm: str
    seed: int
    overrides: tuple[str, ...]
    """Of ``castlit.train``, without seed and folder."""
    folder: Path

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.arm}, seed {self.seed}"


def plan(
    arms: Mapping[str, Sequence[str]], seeds: int | Sequence[int], common: Sequence[str], output: Path
) -> list[Run]:
    """Spread a study out into runs: seed by seed, so that a study that is broken off has whole seeds.

    Args:
        arms: For each arm's name, its overrides of ``castlit.train``.
        seeds: Which; or how many, from 0 on.
        common: Overrides of every run; they come last.
        output: The study's folder.

    Raises:
        InputError: There is nothing to run; or a name or an override cannot be.
    """
    numbers = list(range(require_int("seeds", seeds, 1))) if isinstance(seeds, int) else list(seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds must be a number, or a list of different ones, got {seeds!r}")
    if not arms:
        raise InputError("arms: a study needs at least one")
    for name, overrides in arms.items():
        if not re.fullmatch(r"(?!\.+$)[\w.+-]+", name):
            raise InputError(f"arms.{name}: names hold letters, digits, ., _, + and - only, as folders are called so")
        for word in [*overrides, *common]:
            key = str(word).partition("=")[0].lstrip("+~")
            if "=" not in str(word) or key in _OWN:
                raise InputError(f"arms.{name}: {word!r} is no override that a study can give to each of its runs")
    return [
        Run(
            name,
            require_int("seeds", seed, 0),
            (*map(str, overrides), *map(str, common)),
            output / "runs" / name / f"seed_{seed}",
        )
        for seed in numbers
        for name, overrides in arms.items()
    ]
