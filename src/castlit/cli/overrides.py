"""Let paths through Hydra's command line as typed: ``data.images=2007``, ``/home/jürgen``, ``/data/{000..099}.tar``."""

import os
import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from castlit.utils.validation import InputError

_RANGE = re.compile(r"\{[^{}]*(?:\.\.|,)[^{}]*\}")
"""What a shell would expand: ``{000..099}`` or ``{train,val}``."""

_NUMBER = re.compile(r"nan|[+-]?(inf|[\d_]*\.?\d[\d_]*\.?(e[+-]?\d+)?)", re.IGNORECASE)
"""What Hydra reads as a number."""

_TRUTH_VALUES = ("true", "false")

PATH_KEYS = {
    *("images", "masks", "val_images", "val_masks", "photos", "test_photos", "test_masks", "urls", "val_urls", "maps"),
    *("voc", "coco", "imagenet", "imagenet9", "root", "make_from", "runs", "folder", "path", "save_dir", "dirpath"),
    *("cache", "output", "checkpoint", "compare", "resume", "weights", "network", "dir"),
}
"""Last parts of the keys that hold paths: their values are paths also where they do not look like one."""

_WRITTEN = {"save_dir", "dirpath", "cache", "output", "dir"}
"""Those of what is written."""

_NO_PATHS = {"last", "self", "random", "null"}
"""Values of such keys that mean something else."""

_WORDS = {"base", "overrides", "arms", "evaluate", "evaluations", "prepare"}
"""First parts of the keys that hold lists of overrides."""


def quoted(text: str) -> str:
    """The text in single quotes, with the characters escaped that are special in Hydra's grammar."""
    return str(QuotedString(text, Quote.single).with_quotes())


def plain_value(argument: str) -> str:
    """The value of an override as Hydra reads it, without quotes; as typed if it is no text."""
    override = _parse(argument)
    value = None if override is None or override.is_sweep_override() else override.value()
    return value if isinstance(value, str) else argument.partition("=")[2]


def shell_override(key: str, value: str) -> str:
    """An override as one types it in a shell, for any text as its value."""
    if re.fullmatch(r"[\w/.-]+", value, re.ASCII):
        return f"{key}={value}"
    return shlex.quote(f"{key}={quoted(value)}")


def paths_from_here(arguments: list[str]) -> list[str]:
    """Make the paths of what is read absolute where Hydra will leave the current folder (``hydra.job.chdir=true``).

    Args:
        arguments: The words of the command line.
    """
    leaves = any(word.lstrip("+").lower() == "hydra.job.chdir=true" for word in arguments)
    return [_from_here(word) for word in arguments] if leaves else arguments


def _from_here(argument: str) -> str:
    key, equals, value = argument.partition("=")
    text = value.strip("'\"")
    if not equals or key.lstrip("+").rpartition(".")[2] not in PATH_KEYS - _WRITTEN or text in _NO_PATHS:
        return argument
    # A pattern of shards is not there itself.
    is_here = os.path.lexists(text) or os.path.isdir(os.path.dirname(text))  # noqa: PTH112, PTH120 - as typed
    return f"{key}={os.path.abspath(text)}" if is_here else argument  # noqa: PTH100


def quote_path(argument: str) -> str:
    """Quote what is a path but not parsed as that text by Hydra: numbers, special characters, braces, lists of these.

    Everything else stays, mistakes included.

    Args:
        argument: One word of the command line.
    """
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    is_path = key.lstrip("+").rpartition(".")[2] in PATH_KEYS
    if (is_path and _NUMBER.fullmatch(value)) or ((is_path or "/" in value) and _is_misread(argument, value)):
        return f"{key}={quoted(value)}"
    if parses(argument):
        return argument
    if key.lstrip("+").partition(".")[0] in _WORDS:
        words = f"{key}={_quote_words(value)}"
        return words if parses(words) else argument
    parts = f"{key}={_quote_parts(value, is_path)}"
    if parses(parts):
        return parts
    one = _is_path(value, is_path) and value[:1] + value[-1:] not in ("[]", "{}")
    return f"{key}={quoted(value)}" if one else argument


def _is_misread(argument: str, value: str) -> bool:
    """Whether a file or folder has this name, which Hydra takes for several values, such as ``/photos, 2020``."""
    if not _is_on_disk(value):
        return False
    override = _parse(argument)
    if override is None or override.is_sweep_override():
        return True
    read = override.value()
    return read != value and isinstance(read, (str, list, dict))


def _is_on_disk(value: str) -> bool:
    """Whether this is there, or will be in a folder that is there and has a name that Hydra splits."""
    path = os.path.expanduser(value)  # noqa: PTH111 - as it was typed
    if value and os.path.lexists(path):
        return True
    while (path := os.path.dirname(path)) not in ("", os.sep):  # noqa: PTH120
        if os.path.isdir(path):  # noqa: PTH112
            return "," in path or path.startswith(("[", "{"))
    return False


def _quote_parts(value: str, is_path: bool) -> str:
    """Quote the parts of a list, of a dictionary's values, or of a sweep over values, where they are paths."""
    if value[:1] + value[-1:] == "[]":
        return f"[{_quote_parts(value[1:-1], is_path)}]"
    if value[:1] + value[-1:] == "{}" and ":" in value:
        pairs = [element.partition(":") for element in _elements(value[1:-1])]
        return "{" + ",".join(f"{name}{colon}{_quote_parts(part, is_path)}" for name, colon, part in pairs) + "}"
    return ",".join(_quote_part(element, is_path) for element in _elements(value))


def _quote_words(value: str) -> str:
    """Quote the overrides in lists, and in dictionaries of lists."""
    text = value.strip()
    if text[:1] + text[-1:] == "[]":
        return f"[{','.join(_quote_words(element) for element in _elements(text[1:-1]))}]"
    if text[:1] + text[-1:] == "{}":
        pairs = [element.partition(":") for element in _elements(text[1:-1])]
        return "{" + ",".join(f"{name}{colon}{_quote_words(part)}" for name, colon, part in pairs) + "}"
    return quoted(text) if "=" in text and text[0] not in "'\"" else value


def _quote_part(element: str, is_path: bool) -> str:
    text = element.strip()
    return quoted(text) if _is_path(text, is_path) and not parses(f"key={text}") else element


def _is_path(text: str, is_path: bool) -> bool:
    """Whether a text is a path or URL, by its key or by its looks, and not in quotes already."""
    if text[:1] in ("'", '"', ""):
        return False
    return is_path or "/" in text or text.startswith("~") or bool(_RANGE.search(text) and not _RANGE.fullmatch(text))


def settle_group(argument: str) -> str:
    """Replace a group's null, or its removal, by its option ``none``: ``logger=null`` and ``~logger`` mean it.

    Args:
        argument: One word of the command line.

    Raises:
        InputError: The group has no such option, so that the program needs one of the others; or the value is a number,
            for which Hydra has a traceback.
    """
    key, equals, value = argument.lstrip("+~").partition("=")
    key = key.partition("@")[0]  # the rest is where its keys go
    removed = argument.startswith("~") and not equals
    null = removed or (bool(equals) and value in ("null", "None", "~"))
    number = _NUMBER.fullmatch(value) or value.lower() in _TRUTH_VALUES
    if not (key.isidentifier() and (null or number)):
        return argument
    folder = files("castlit.conf") / key
    if not folder.is_dir():
        return argument
    options = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
    if null and "none" in options:
        return f"{key}=none"
    raise InputError(f"{argument}: choose one of {key}'s options: {', '.join(options)}")


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """Write words as Hydra parses them: :func:`quote_path`, then :func:`settle_group`."""
    return [settle_group(quote_path(word)) for word in arguments]


def refuse_mistakes(arguments: Sequence[str], any_group: bool) -> None:
    """Refuse what Hydra would accept and nothing could use.

    Args:
        arguments: The words of the command line.
        any_group: Whether a folder of the user's configurations may have groups of any name.

    Raises:
        InputError: As in :func:`refuse_truth_value` and :func:`refuse_misspelt_group`.
    """
    for word in arguments:
        refuse_truth_value(word)
    for word in arguments if not any_group else ():
        refuse_misspelt_group(word)


def refuse_truth_value(argument: str) -> None:
    """Refuse ``data.cache=false``: it names no folder, and the code that opens it would end in a traceback.

    Args:
        argument: One word of the command line.

    Raises:
        InputError: The key is that of a path, and the value true or false.
    """
    key, _, value = argument.lstrip("+").partition("=")
    last = key.rpartition(".")[2]
    # callbacks.checkpoint and callbacks.resume are no paths.
    is_path = last in PATH_KEYS and (last == key or last not in ("checkpoint", "resume"))
    if is_path and value.lower() in _TRUTH_VALUES:
        raise InputError(f"{argument}: {key} is a path: give one (./{value} where it has this name)")


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
    """The parts between commas; commas inside braces, brackets and quotes do not count."""
    depth, quote, elements = 0, "", [""]
    for sign in value:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and not elements[-1].strip():  # in the middle of a path it is an apostrophe
            quote = sign
        depth += (sign in "{[") - (sign in "}]") if not quote else 0
        if sign == "," and depth <= 0 and not quote:
            elements.append("")
        else:
            elements[-1] += sign
    return elements


def parses(argument: str) -> bool:
    """Whether Hydra reads a word as an override."""
    return _parse(argument) is not None


def _parse(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None
