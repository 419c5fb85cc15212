"""Let paths through Hydra's command line as typed: ``data.images=2007``, ``/home/jürgen``, ``/data/{000..099}.tar``."""

import re
import shlex
from difflib import get_close_matches
from importlib.resources import files

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from castlit.utils.validation import InputError

_RANGE = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")
"""What a shell would expand: ``{000..099}`` or ``{train,val}``."""

_NUMBER = re.compile(r"[0-9._]*[0-9][0-9._]*")
"""What Hydra parses as a number, or tries to."""

_PATHS = {
    *("images", "masks", "val_images", "val_masks", "photos", "test_photos", "test_masks"),
    *("voc", "coco", "imagenet", "imagenet9", "root", "make_from", "runs", "folder", "path"),
    *("cache", "output", "checkpoint", "compare", "resume", "weights", "network", "dir"),
}
"""Last parts of the keys that hold paths."""


def quoted(text: str) -> str:
    """The text in single quotes, with the characters escaped that are special in Hydra's grammar."""
    return str(QuotedString(text, Quote.single).with_quotes())


def shell_override(key: str, value: str) -> str:
    """An override as one types it in a shell, for any text as its value."""
    if re.fullmatch(r"[\w/.-]+", value, re.ASCII):
        return f"{key}={value}"
    return shlex.quote(f"{key}={quoted(value)}")


def quote_path(argument: str) -> str:
    """Quote a path that Hydra would not parse as text: a number, or one with braces or special characters.

    Args:
        argument: One word of the command line.
    """
    key, _, value = argument.partition("=")
    is_path = key.lstrip("+").rpartition(".")[2] in _PATHS
    # A ü or brackets do not parse. A comma does: it may be a sweep over folders.
    if is_path and (_NUMBER.fullmatch(value) or (_is_plain(value) and not _parses(argument))):
        return f"{key}={quoted(value)}"
    return _quote_braces(argument)


def _is_plain(value: str) -> bool:
    """Whether a value is neither quoted, a list nor a dictionary, and has nothing to expand."""
    return not value.startswith(("[", "{", "'", '"')) and "${" not in value and not _RANGE.search(value)


def _quote_braces(argument: str) -> str:
    """Quote the brace patterns in an override's value, if Hydra cannot parse it otherwise.

    In Hydra's grammar a brace starts a dictionary. A value is a pattern only if Hydra cannot parse it and there is text
    beside the braces; everything else stays, mistakes included. In a list, or a sweep over comma-separated values, each
    pattern is quoted separately.
    """
    key, equals, value = argument.partition("=")
    if not equals or not _RANGE.search(value) or _parses(argument):
        return argument
    in_list = value.startswith("[") and value.endswith("]")
    elements = ",".join(_quoted(element) for element in _elements(value[1:-1] if in_list else value))
    typed = f"{key}=[{elements}]" if in_list else f"{key}={elements}"
    return typed if _parses(typed) else argument


def settle_group(argument: str) -> str:
    """Replace a group's null, or its removal, by its option ``none``: ``logger=null`` and ``~logger`` mean it.

    Args:
        argument: One word of the command line.

    Raises:
        InputError: The group has no such option, so that the program needs one of the others.
    """
    key, equals, value = argument.lstrip("+~").partition("=")
    removed = argument.startswith("~") and not equals
    if not (key.isidentifier() and (removed or (equals and value in ("null", "None", "~")))):
        return argument
    folder = files("castlit.conf") / key
    if not folder.is_dir():
        return argument
    options = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
    if "none" in options:
        return f"{key}=none"
    raise InputError(f"{argument}: choose one of {key}'s options: {', '.join(options)}")


def refuse_misspelt_group(argument: str) -> None:
    """Refuse ``+experiments=cast_mocov2``: Hydra adds any key that begins with a plus, and nothing would read this one.

    Args:
        argument: One word of the command line.

    Raises:
        InputError: The key's first part is no group, but nearly one.
    """
    added = re.match(r"\++(\w+)[^=]*=", argument)
    if added is None:
        return
    groups = [folder.name for folder in files("castlit.conf").iterdir() if folder.is_dir()]
    # Only what is nearly the same: a key of the user's own configuration may have any other name.
    near = get_close_matches(added[1], groups, n=1, cutoff=0.8)
    if near and near[0] != added[1]:
        raise InputError(f"{argument}: {added[1]} is no group of configurations (did you mean {near[0]!r}?)")


def refuse_expanded(arguments: list[str]) -> None:
    """Refuse a pattern of shards that the shell has expanded into several words: Hydra would use the last one only.

    Args:
        arguments: The words of the command line.

    Raises:
        InputError: A key that ends in ``urls`` is given several times.
    """
    keys = [argument.partition("=")[0] for argument in arguments]
    for key in keys:
        if key.endswith("urls") and keys.count(key) > 1:
            raise InputError(
                f'{key} is given {keys.count(key)} times: put the pattern in quotes ({key}="/data/{{000..099}}.tar"), '
                f"or give a list ({key}=[/a.tar,/b.tar])"
            )


def _elements(value: str) -> list[str]:
    """The parts between commas; commas inside braces do not count."""
    depth, elements = 0, [""]
    for sign in value:
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += sign
    return elements


def _quoted(element: str) -> str:
    is_pattern = _RANGE.search(element) and not re.fullmatch(r"\s*(\{.*\}|'.*'|\".*\")\s*", element)
    return quoted(element.strip()) if is_pattern else element


def _parses(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True
