"""Find the backbone among a file's weights: take prefixes off and rename, until the names are a backbone's."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from castlit.interop.detectron2_names import COUNTER
from castlit.interop.layouts import LAYOUTS, PREFIXES, Prefix, is_beside, unwrapped
from castlit.utils.validation import InputError

LISTED = 3
"""Names listed in a message."""


class Resolved(NamedTuple):
    """A backbone's weights, and where they were."""

    state: dict[str, Tensor]
    """By torchvision's or timm's names; may still contain a classifier."""
    prefix: str
    """What stood before their names, with its full stop; may be empty."""
    layouts: tuple[str, ...]
    """The names of the layouts that were recognised."""
    left_out: tuple[str, ...]
    """What else there was, by the first parts of the names."""


def resolve(tensors: Mapping[str, Tensor], given: str, known: Collection[str] = ()) -> Resolved:
    """Find a backbone's weights.

    Args:
        tensors: All weights of a file.
        given: What messages call the file.
        known: The names of the backbone's weights, if they are known: where all of them are there, nothing is renamed.

    Raises:
        InputError: A backbone is there, with weights beside it that castlit does not know.
    """
    state, prefix, layouts, left_out = unwrapped(tensors), "", [], []
    wanted = {name for name in known if not name.endswith(COUNTER)}
    while not (wanted and wanted <= set(state)):
        layout = next((each for each in LAYOUTS if any(re.fullmatch(each.sign, name) for name in state)), None)
        if layout is not None:
            state = layout.convert({layout.rename(name): value for name, value in state.items()})
            layouts.append(layout.name)
            continue
        found = next((each for each in PREFIXES if _fits(each, state, given, prefix)), None)
        if found is None:
            break
        inside, others = _split(found, state)
        state, prefix = inside, f"{prefix}{found.name}."
        left_out += others
    return Resolved(state, prefix, tuple(layouts), groups(left_out))


def _split(prefix: Prefix, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights behind a prefix, without it, and the names of the others."""
    start = f"{prefix.name}."
    inside = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    return inside, [name for name in state if not name.startswith(start)]


def _fits(prefix: Prefix, state: Mapping[str, Tensor], given: str, outer: str) -> bool:
    """Whether a prefix is that of the backbone.

    Raises:
        InputError: It is, but other weights are not known.
    """
    inside, others = _split(prefix, state)
    if not inside or {"weight", "bias"} & set(inside):
        return False  # a layer is no network
    unknown = [name for name in others if not is_beside(name, prefix.beside)]
    if unknown and prefix.sure:
        place, strange = f"{outer}{prefix.name}", listed([outer + name for name in unknown])
        raise InputError(
            f"{given}: next to {place}.* it has {strange}, which castlit does not know: "
            f"save the backbone alone, torch.save(model.get_submodule('{place}').state_dict(), 'backbone.pth')"
        )
    return not unknown


def listed(names: list[str]) -> str:
    """``a, b, c, … (12 in all)``."""
    more = f", … ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def groups(names: list[str]) -> tuple[str, ...]:
    """The first parts of names, each once."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))
