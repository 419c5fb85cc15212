"""Let paths through Hydra's command line as typed: ``data.images=2007``, ``/home/jürgen``, ``/data/{000..099}.tar``."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from castlit.utils.validation import InputError

_RANGE = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")
"""What a shell would expand: ``{000..099}`` or ``{train,val}``."""

_NUMBER = re.compile(r"[0-9._]*[0-9][0-9._]*")
"""What Hydra would read as a number, or nearly."""

_PATHS = {
    *("images", "masks", "val_images", "val_masks", "photos", "test_photos", "test_masks"),
    *("voc", "coco", "imagenet", "imagenet9", "root", "make_from", "runs", "folder", "path"),
    *("cache", "output", "checkpoint", "compare", "resume", "weights", "network", "dir"),
}
"""Last parts of the keys that hold paths."""


def quoted(text: str) -> str:
    """The text in single quotes, with what Hydra's grammar would stumble over escaped."""
    return str(QuotedString(text, Quote.single).with_quotes())


def quote_path(argument: str) -> str:
    """Quote what Hydra would not take for the path that it is: a number, a sign its grammar lacks, or braces.

    Args:
        argument: One word of the command line.
    """
    key, _, value = argument.partition("=")
    is_path = key.lstrip("+").rpartition(".")[2] in _PATHS
    # What does not parse has a ü, brackets or the like. A comma parses: to sweep over folders is what it may mean.
    if is_path and (_NUMBER.fullmatch(value) or (_is_plain(value) and not _parses(argument))):
        return f"{key}={quoted(value)}"
    return _quote_braces(argument)


def _is_plain(value: str) -> bool:
    """Whether a value is neither quoted, nor a list or a dictionary, and has nothing for Hydra or for us to expand."""
    return not value.startswith(("[", "{", "'", '"')) and "${" not in value and not _RANGE.search(value)


def _quote_braces(argument: str) -> str:
    """Quote the brace patterns in the value of an override, where Hydra cannot make sense of it otherwise.

    To Hydra a brace begins a dictionary. Only what its grammar refuses, and has text beside the braces, is taken for a
    pattern; everything else stays as it is, mistakes included. In a list, or a sweep over values that are separated by
    commas, every pattern is quoted by itself.
    """
    key, equals, value = argument.partition("=")
    if not equals or not _RANGE.search(value) or _parses(argument):
        return argument
    in_list = value.startswith("[") and value.endswith("]")
    elements = ",".join(_quoted(element) for element in _elements(value[1:-1] if in_list else value))
    typed = f"{key}=[{elements}]" if in_list else f"{key}={elements}"
    return typed if _parses(typed) else argument


def refuse_expanded(arguments: list[str]) -> None:
    """Notice that the shell expanded a pattern of shards into words, of which Hydra would use the last alone.

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
    """The parts between commas, but for the commas inside braces."""
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
