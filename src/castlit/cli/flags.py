"""Hydra's flags, in full: its parser takes ``--experiment=cast_mocov2`` for an abbreviation of one."""

from castlit.cli.help import asks_for_help, typed_as
from castlit.utils.validation import InputError, did_you_mean

_WITH_VALUE = ("--cfg", "--package", "--config-dir", "--config-path", "--config-name", "--experimental-rerun", "--info")
_WITHOUT = ("--help", "--hydra-help", "--version", "--resolve", "--run", "--multirun", "--shell-completion")

WITH_VALUE = (*_WITH_VALUE, "-c", "-p", "-cd", "-cp", "-cn", "-i")
"""Flags that take the next word as their value."""


def refuse_unknown_flags(config_name: str, arguments: list[str]) -> None:
    """Refuse words with two dashes that are no flag, and flags that do nothing.

    Args:
        config_name: The program's primary config in ``castlit.conf``.
        arguments: The words of the command line.

    Raises:
        InputError: Such a word; the line says what to type for a group or key.
    """
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag in ("--", *_WITH_VALUE, *_WITHOUT):
            continue
        key = typed_as(config_name, flag.lstrip("-"))
        if key is None:
            raise InputError(f"{word}: no such option{did_you_mean(flag, _WITH_VALUE + _WITHOUT)}: see --help")
        next_is_value = not equals and "=" not in following and not following.startswith("-")
        typed = value or (following if next_is_value else "")
        raise InputError(f"{word}: groups and keys have no dashes: type {key}={typed or '...'}")
    flags = {word.partition("=")[0] for word in arguments}
    idle = [flag for flag in ("--package", "-p", "--resolve") if flag in flags]
    if idle and not flags & {"--cfg", "-c"} and not asks_for_help(arguments):
        raise InputError(f"{idle[0]} is for showing the configuration: add --cfg job")
