"""What runs came to, and what several seeds of them say together."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from castlit.experiments.runner import RESULTS, is_done
from castlit.experiments.study_plan import Run
from castlit.utils.validation import InputError, did_you_mean

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and how sure it is."""

    mean: float
    half_width: float | None
    """Of the interval that holds the true mean with a confidence of 95 %; None for a single value."""
    seeds: int
    """How many."""

    def __str__(self) -> str:
        """In per cent, as all figures of studies are shares."""
        # Adding zero takes the sign from what is rounded to -0.0.
        mean = f"{round(100 * self.mean, 1) + 0.0:.1f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.1f}"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with Student's interval: exact where values are normal, and wide as it must be for few seeds."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Estimate(mean, None, count)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread, count)


def figures_of(run: Run, in_percent: Sequence[str] = ()) -> dict[str, float]:
    """All figures of a run that is done: of its evaluation, and ``seconds`` and ``val/...`` of its training.

    Figures of tables, and of protocols within one, are named by their path, such as ``grounding/pretext/pointing``.

    Args:
        run: Which.
        in_percent: Those of the evaluation that are in [0, 100], to be shares like all others.

    Raises:
        InputError: They cannot be read.
    """
    try:
        results = json.loads((run.folder / RESULTS).read_text())["results"]
        summary = json.loads((run.folder / "summary.json").read_text())
        trained = {name: figures["end"] for name, figures in summary["metrics"].items() if name.startswith("val/")}
        flat = dict(_flat(results))
        flat.update({name: flat[name] / 100 for name in in_percent if name in flat})
        return {**flat, **trained, "seconds": float(summary["seconds"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run.folder}: its figures cannot be read ({error!r}); remove it to run it again") from None


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)


def by_arm(runs: Sequence[Run], in_percent: Sequence[str] = ()) -> dict[str, dict[int, dict[str, float]]]:
    """Arm → seed → figures, of those runs that are done."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        arm = found.setdefault(run.arm, {})
        if is_done(run.folder):
            arm[run.seed] = figures_of(run, in_percent)
    return found


def not_there(figures: Mapping[str, Mapping[int, Mapping[str, float]]], name: str) -> str:
    """A line on a figure that no run has, with what comes nearest; empty while none is done, or where one has it."""
    names = {found for seeds in figures.values() for values in seeds.values() for found in values}
    return f"no run has the figure {name}{did_you_mean(name, sorted(names))}" if names and name not in names else ""


def estimates(seeds: Mapping[int, Mapping[str, float]], figure: str) -> Estimate | None:
    """An arm's mean over its seeds; None where none of them has the figure."""
    values = [figures[figure] for figures in seeds.values() if figure in figures]
    return estimate(values) if values else None


def difference(
    seeds: Mapping[int, Mapping[str, float]], control: Mapping[int, Mapping[str, float]], figure: str
) -> Estimate | None:
    """By how much an arm is above its control, seed by seed: what both share of a seed's luck falls out."""
    both = [seed for seed in seeds if seed in control and figure in seeds[seed] and figure in control[seed]]
    return estimate([seeds[seed][figure] - control[seed][figure] for seed in both]) if both else None
