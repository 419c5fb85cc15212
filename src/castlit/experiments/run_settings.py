"""The settings of runs, and which of them differ."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from castlit.utils.plain_yaml import read_plain_yaml
from castlit.utils.validation import InputError

SEED = "seed"

_NOT_SETTINGS = ("output_dir", "resume")

_BUDGET = "budget"

_REFERENCE = re.compile(r"\$\{[\w.\[\]]+\}")
"""A reference to another key; other interpolations may call a resolver, also by a name that is itself a reference."""

_HELD = "\ue000"
"""For the start of an interpolation that is not to be evaluated."""


@dataclass
class Settings:
    """A run's settings, flattened."""

    values: dict[str, Any]
    """Dotted key → value."""
    choices: dict[str, Any] = field(default_factory=dict)
    """Group → option, such as experiment → cast_mocov2."""
    typed: list[str] = field(default_factory=list)
    """The keys and groups that were given on the command line."""
    derived: set[str] = field(default_factory=set)
    """Keys that refer to others."""

    def get(self, key: str) -> Any:  # noqa: ANN401
        """A key's value or a group's option; None if there is neither, ``...`` for a key with keys below it."""
        if key in self.choices:
            return self.choices[key]
        if key in self.values:
            return self.values[key]
        return "..." if any(name.startswith(f"{key}.") for name in self.values) else None


def read_settings(folder: Path) -> Settings:
    """Read a run's ``config.yaml`` and Hydra's files beside it, if they exist.

    Raises:
        InputError: A file is broken.
    """
    plain, resolved = _mapping(folder / ".hydra" / "config.yaml"), _mapping(folder / "config.yaml")
    if resolved is None and plain is not None:
        resolved = _resolved(folder, plain)  # The run failed before it wrote its own.
    values = _flat(resolved or {})
    # Budget keys count under the names of the keys that refer to them.
    settings = {
        key: value for key, value in values.items() if key not in _NOT_SETTINGS and not key.startswith("budget.")
    }
    found = Settings(settings)
    if plain is None:
        # The module repeats other groups, and paths in the run's own folder are no settings.
        own = str(values.get("output_dir", folder))
        found.derived = {key for key, value in values.items() if key.startswith("module.") or own in str(value)}
        return found
    references = {key: value for key, value in _flat(plain).items() if isinstance(value, str) and "${" in value}
    found.derived = {key for key, value in references.items() if "${budget." not in value}
    # A group by reference, such as module.method: ${method}.
    found.derived |= {key for key in values if any(key.startswith(f"{above}.") for above in found.derived)}
    hydra = _yaml(folder / ".hydra" / "hydra.yaml")
    try:
        choices = dict(hydra["hydra"]["runtime"]["choices"])
    except (KeyError, TypeError, ValueError):
        choices = {}
    found.choices = {group: option for group, option in choices.items() if not str(group).startswith("hydra/")}
    if "data" in found.choices:
        # In runs of castlit 0.2 the data chose it.
        found.choices.setdefault(_BUDGET, "scenes" if found.choices["data"] == "scenes" else "photographs")
    words = _yaml(folder / ".hydra" / "overrides.yaml")
    found.typed = [str(word).partition("=")[0].lstrip("+~") for word in (words if isinstance(words, list) else [])]
    # A key may be typed for one run and derived in another; it counts for both.
    found.derived -= set(found.typed)
    return found


def differing(runs: Sequence[Settings]) -> list[str]:
    """The keys and groups in which the runs differ.

    First those that were typed, then groups, then all others, such as defaults of another version. Left out are
    consequences: references, and keys that are determined by the groups already listed.
    """
    typed = [key for key in _union(run.typed for run in runs) if key not in _NOT_SETTINGS and _varies(runs, key)]
    groups = set().union(*(run.choices for run in runs))
    kept = [key for key in typed if key in groups]
    for group in sorted(groups - set(typed), key=lambda name: (name == _BUDGET, name)):  # data may determine it
        if _varies(runs, group) and not _follows(runs, group, kept):
            kept.append(group)
    rest = [
        key
        for key in _union(run.values for run in runs)
        if key not in groups
        and not any(key == above or key.startswith(f"{above}.") for above in typed)
        and any(key in run.values and key not in run.derived for run in runs)
        and _varies(runs, key)
    ]
    # A seed is always listed.
    rest = [key for key in rest if key == SEED or not _follows(runs, key, kept)]
    return [*typed, *(key for key in kept if key not in typed), *rest]


def _varies(runs: Sequence[Settings], key: str) -> bool:
    return len({token(run.get(key)) for run in runs}) > 1


def _follows(runs: Sequence[Settings], key: str, others: Sequence[str]) -> bool:
    """Whether the others determine the key's value."""
    known: dict[tuple[str, ...], str] = {}
    for run in runs:
        value = token(run.get(key))
        if known.setdefault(tuple(token(run.get(other)) for other in others), value) != value:
            return False
    return True


def token(value: object) -> str:
    """A text that is equal for equal settings: 1 and 1.0 are equal, True and 1 are not."""
    return repr(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _union(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part))


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(config, dict) or (prefix and not config):
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _resolved(folder: Path, plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration with its references resolved, but no resolvers: those may read the reader's environment."""
    config = OmegaConf.create(_in_texts(_hold, {**plain, "output_dir": str(folder)}))
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, ValueError):
        return plain  # Unresolved: a dangling reference may be why the run failed.
    return _in_texts(lambda text: text.replace(_HELD, "${"), resolved)  # type: ignore[no-any-return]


def _hold(text: str) -> str:
    # Not escaped by a backslash: one that is there already would escape ours.
    return text if "${" not in _REFERENCE.sub("", text) else text.replace("${", _HELD)


def _in_texts(change: Callable[[str], str], value: Any) -> Any:  # noqa: ANN401
    """The value, with all texts in it changed."""
    if isinstance(value, dict):
        return {key: _in_texts(change, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_texts(change, each) for each in value]
    return change(value) if isinstance(value, str) else value


def _mapping(path: Path) -> dict[str, Any] | None:
    content = _yaml(path)
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path} is no configuration: remove it, or leave this run out")
    return content


def _yaml(path: Path) -> Any:  # noqa: ANN401
    try:
        return read_plain_yaml(path)
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise InputError(
            f"{path} is not valid YAML ({' '.join(str(error).split())}): remove it, or leave this run out"
        ) from None
