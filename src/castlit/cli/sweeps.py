"""Sweeps (``-m``): what only they use, and whether one searches."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from castlit.utils.validation import InputError

_LAUNCHER, _SWEEPER = "hydra/launcher", "hydra/sweeper"
_BASIC = "basic"
"""Hydra's own of each: the launcher runs one job after the other here, the sweeper takes the values that are given."""


class SweepError(InputError):
    """A mistake that all jobs of a sweep share: the first one ends it."""


def in_sweep() -> bool:
    """Whether this run is a job of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def in_search() -> bool:
    """Whether this run is a job of a sweep whose next values depend on what the runs return."""
    return in_sweep() and _choice(_SWEEPER) != _BASIC


def job_ends_sweep() -> bool:
    """Whether the end of this process ends the sweep: other launchers run jobs in processes of their own."""
    return _choice(_LAUNCHER) == _BASIC


def refuse_without_sweep() -> None:
    """Refuse a launcher or sweeper without ``-m``: one ordinary run would start.

    Raises:
        InputError: One was chosen.
    """
    chosen = [f"{key}={_choice(key)}" for key in (_SWEEPER, _LAUNCHER) if _choice(key) != _BASIC]
    if chosen and not in_sweep():
        typed = [word for word in HydraConfig.get().overrides.task if word.lstrip("+").startswith("sweep=")]
        raise InputError(f"{[*typed, *chosen][0]} is for sweeps: add -m")


def _choice(group: str) -> str:
    return str(HydraConfig.get().runtime.choices.get(group, _BASIC))
