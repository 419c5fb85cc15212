"""Keys that the user must give, found before the classes that need them are imported."""

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from castlit.utils.validation import InputError


def require_complete(config: DictConfig, *parts: str) -> None:
    """Check that parts of a config have no missing value (``???``), as Hydra's ``instantiate`` will read them.

    Args:
        config: The whole config.
        parts: Keys of what is instantiated. Those that do not exist are left out.

    Raises:
        InputError: A key must be given.
    """
    keys = list(config)  # "part in config" would be false for a missing value
    for part in parts:
        if part in keys:
            _check(config, part)


def explain_missing(error: MissingMandatoryValue | InterpolationToMissingValueError) -> str:
    """One line that names the key, also where another key refers to it."""
    found = re.search(r"Missing mandatory value: (\S+)", str(error))
    key = found[1] if found else error.full_key
    return f"{key} must be given: add {key}=..."


def _check(node: Any, key: Any) -> None:  # noqa: ANN401 - any YAML mapping or list
    try:
        value = node[key]
    except (MissingMandatoryValue, InterpolationToMissingValueError) as error:
        raise InputError(explain_missing(error)) from None
    except OmegaConfBaseException:
        return  # instantiate will say what is wrong
    if isinstance(value, ListConfig):
        for i in range(len(value)):
            _check(value, i)
    elif isinstance(value, DictConfig) and value.get("_recursive_", True):
        partial = bool(value.get("_partial_", False))
        for inner in value:
            # What a partial does not get, its caller gives.
            if not (partial and OmegaConf.is_missing(value, inner)):
                _check(value, inner)
