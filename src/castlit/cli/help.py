"""``--help``: examples first, then the groups of this program alone, then its keys with their comments.

Hydra's own help lists the groups of all programs, and keys without their comments.
"""

import re
import textwrap
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from castlit.cli.config_dir import split_config_dir

ADDED = {"train": ("experiment", "sweep"), "evaluate": ("protocol", "attention")}
"""Groups without a default, which are added with a plus, by program."""

_CONF = files("castlit.conf")
_WIDTH = 100
_SECTION = re.compile(r"^(?:defaults|hydra|module|benchmark):\n(?: .*\n|\n)*", re.MULTILINE)
"""How a program is put together, and how it starts: nothing that users set."""


def asks_for_help(arguments: list[str]) -> bool:
    """Whether a command line asks what there is to type."""
    return "--help" in arguments or "-h" in arguments


def help_text(config_name: str, arguments: list[str]) -> str:
    """What a program says about itself.

    Args:
        config_name: Its primary config in ``castlit.conf``.
        arguments: The words of the command line: a folder of the user's configs may add options.
    """
    text = _text(f"{config_name}.yaml")
    words = _load(text)["hydra"]["help"]
    folder, _ = split_config_dir(arguments)
    lines = [words["header"], "", "Examples", textwrap.indent(words["footer"].rstrip(), "  "), ""]
    groups = _groups(config_name, None if folder is None else Path(folder))
    if groups:
        lines += ["Groups (* is the default)", *groups, ""]
    keys = _SECTION.sub("", text.partition("\n")[2]).strip()
    lines += ["Keys, with their defaults (??? must be given)", textwrap.indent(keys, "  "), ""]
    if groups:
        lines += ["The keys of the groups, and all values, without running anything: add --cfg job"]
    return "\n".join(lines).rstrip()


def chosen_groups(config_name: str) -> dict[str, str]:
    """The groups that a config lets its user choose, with their defaults; those of the chosen options, too."""
    found: dict[str, str] = {}
    for group, option in _choices(f"{config_name}.yaml"):
        found.setdefault(group, option)
    return found


def typed_as(config_name: str, key: str) -> str | None:
    """A group or key of a program as one types it, such as ``+experiment``; None if it has none of this name.

    Args:
        config_name: The program's primary config in ``castlit.conf``.
        key: The name of a group or key.
    """
    top = key.partition(".")[0]
    for typed, group in _typed_groups(config_name).items():
        if key == group or (top == group and not typed.startswith("+")):
            return typed + key.removeprefix(group)
    return key if top in _load(_text(f"{config_name}.yaml")) else None


def options_named(config_name: str, option: str, folder: Path | None) -> list[str]:
    """The options of this name in a program's groups, as one types them, such as ``+experiment=cast_mocov2``.

    Args:
        config_name: The program's primary config in ``castlit.conf``.
        option: Their name.
        folder: With the user's configurations, which may add options.
    """
    groups = _typed_groups(config_name)
    return [f"{typed}={option}" for typed, group in groups.items() if option in _options(group, folder)]


def _typed_groups(config_name: str) -> dict[str, str]:
    """A program's groups by what one types before the equals sign: those without a default have a plus."""
    defaults = chosen_groups(config_name)
    added = [group for group in ADDED.get(config_name, ()) if group not in defaults]
    return {**{f"+{group}": group for group in added}, **{group: group for group in defaults}}


def _groups(config_name: str, folder: Path | None) -> list[str]:
    defaults = chosen_groups(config_name)
    names = {f"{typed}=": group for typed, group in _typed_groups(config_name).items()}
    indent = max(map(len, names), default=0) + 4
    return [
        textwrap.fill(
            ", ".join(f"{option}*" if option == defaults.get(group) else option for option in _options(group, folder)),
            _WIDTH,
            initial_indent=f"  {typed}".ljust(indent),
            subsequent_indent=" " * indent,
            break_long_words=False,
        )
        for typed, group in names.items()
    ]


def _options(group: str, folder: Path | None) -> list[str]:
    places = [_CONF / group, *([folder / group] if folder is not None and (folder / group).is_dir() else [])]
    names = {each.name for place in places for each in place.iterdir()}
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _choices(file: str) -> Iterator[tuple[str, str]]:
    """Group and option of each choice in a config's list of defaults, then of those that the options make."""
    own = [each for each in _load(_text(file)).get("defaults", []) if isinstance(each, dict)]
    pairs = [(group.lstrip("/"), option) for each in own for group, option in each.items() if " " not in group]
    yield from pairs
    for group, option in pairs:
        yield from _choices(f"{group}/{option}.yaml")


def _text(file: str) -> str:
    return (_CONF / file).read_text(encoding="utf-8")


def _load(text: str) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(OmegaConf.create(text))
    return dict(content)
