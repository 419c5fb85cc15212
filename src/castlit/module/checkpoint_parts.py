"""The parts of a CASTModule in its checkpoint: described in plain values, and built from these."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from castlit.utils.plain_file import read_plain
from castlit.utils.serializable import TARGET, Spec, build, describe
from castlit.utils.validation import InputError

PartT = TypeVar("PartT")

# For a part that cannot be described in plain values.
_NO_SPEC = {"no_spec": True}


@contextmanager
def reading(path: object, weights_only: bool) -> Iterator[None]:
    """Within the context, a checkpoint is loaded: what is wrong with it becomes one line that names it.

    Args:
        path: The checkpoint; anything but a path of a local file is not looked at before.
        weights_only: Whether only plain values may be in it.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: The file is no checkpoint of CASTModule, or damaged, or of another version.
    """
    if weights_only and isinstance(path, (str, Path)) and "://" not in str(path):
        content = read_plain(path, str(path))
        parts = content if isinstance(content, dict) else {}
        # Without settings, the caller may give the parts.
        for key, part in {"state_dict": parts.get("state_dict"), "settings": parts.get("hyper_parameters", {})}.items():
            if not isinstance(part, Mapping):
                raise InputError(f"{path}: not a checkpoint of CASTModule, or damaged: it has no {key}")
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # from here on, a damaged file may raise anything
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{path}: cannot be loaded; it is damaged, or of another version ({what})") from error


def spec_of(part: object) -> Spec:
    """Describe a part in plain values, for :func:`part_from`."""
    return describe(part) or dict(_NO_SPEC)


def part_from(name: str, value: object, kind: type[PartT]) -> PartT:
    """Return a part that is given as it is, or as :func:`spec_of` described it.

    Args:
        name: The argument of CASTModule, for messages.
        value: The part or its spec.
        kind: Its class.

    Raises:
        InputError: It is neither, or its spec says that it could not be described, or names no class.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping) and value != _NO_SPEC and TARGET not in value:
        # From a configuration where its group was switched off, and some keys were set.
        raise InputError(f"{name} has the keys {', '.join(map(str, value))}, and no {TARGET} to say what it is")
    if isinstance(value, Mapping) and value != _NO_SPEC:
        return part_from(name, build(value), kind)
    if value == _NO_SPEC:
        raise InputError(
            f"the checkpoint does not say how its {name} was built: give it, "
            f"CASTModule.load_from_checkpoint(path, {name}=...), or +{name}=... on the command line"
        )
    raise InputError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
