"""The parts of a CASTModule in its checkpoint: described in plain values, and built from these."""

from collections.abc import Mapping
from typing import TypeVar

from castlit.utils.serializable import Spec, build, describe
from castlit.utils.validation import InputError

PartT = TypeVar("PartT")

# For a part that cannot be described in plain values.
_NO_SPEC = {"no_spec": True}


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
        InputError: It is neither, or its spec says that it could not be described.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping) and value != _NO_SPEC:
        return part_from(name, build(value), kind)
    if value == _NO_SPEC:
        raise InputError(
            f"the checkpoint does not say how its {name} was built: give it, "
            f"CASTModule.load_from_checkpoint(path, {name}=...), or +{name}=... on the command line"
        )
    raise InputError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
