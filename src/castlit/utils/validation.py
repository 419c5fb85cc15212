"""Argument checks that fail with one line that a user can act on."""

import difflib
import math
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A mistake in the user's input; the message says what to do."""


def require_number(
    name: str, value: object, low: float | None = None, high: float | None = None, *, above: float | None = None
) -> float:
    """Return ``value`` if it is a finite number within [low, high] (and strictly over ``above``).

    Args:
        name: The user's name of this value.
        value: What the user gave.
        low: Smallest value allowed.
        high: Largest value allowed.
        above: Bound that the value must exceed.

    Raises:
        InputError: ``value`` is no number, not finite, or out of range.
    """
    # NumPy's numbers are registered as these, its booleans are not.
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{name} must be a number, got {value!r}")
    _require_range(name, value, low, high, above)
    return float(value)


def require_int(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` if it is a whole number within [low, high].

    Raises:
        InputError: ``value`` is not a whole number, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    _require_range(name, value, low, high, None)
    return int(value)


def require_bool(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False: ``no``, which is text to Hydra, would count as true.

    Raises:
        InputError: ``value`` is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")
    return value


def require_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; the error names the nearest one.

    Raises:
        InputError: ``value`` is not among the choices.
    """
    allowed = list(choices)
    if isinstance(value, str) and value in allowed:
        return value
    raise InputError(f"{name} must be one of {', '.join(allowed)}; got {value!r}{did_you_mean(value, allowed)}")


def require_path(name: str, value: object) -> Path:
    """Return ``value`` as a Path, with ``~`` as the home folder.

    Raises:
        InputError: ``value`` is not one path, or empty, as an unset variable of the shell is.
    """
    if not isinstance(value, (str, Path)) or not str(value).strip():
        raise InputError(f"{name} must be the path of a file or folder, got {value!r}")
    return Path(value).expanduser()


def as_list(value: object) -> list[Any]:
    """Return several values as a list, and one value as a list of one: ``key=32`` means ``key=[32]``.

    Args:
        value: What the user gave; a string is one value.
    """
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def did_you_mean(value: object, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(str(value), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _require_range(
    name: str,
    value: Any,  # noqa: ANN401
    low: float | None,
    high: float | None,
    above: float | None,
) -> None:
    if low is not None and value < low:
        raise InputError(f"{name} must be at least {low}, got {value!r}")
    if high is not None and value > high:
        raise InputError(f"{name} must be at most {high}, got {value!r}")
    if above is not None and value <= above:
        raise InputError(f"{name} must be greater than {above}, got {value!r}")
