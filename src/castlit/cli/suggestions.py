"""What was meant, where Hydra refuses an override, or cannot write: its own words mislead, or are a traceback."""

import re
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from castlit.cli.config_dir import CONFIG_MODULE, composable, split_config_dir
from castlit.cli.flags import WITH_VALUE
from castlit.cli.help import options_named
from castlit.cli.overrides import parses, quoted
from castlit.utils.validation import did_you_mean


def hydras_refusal(printed: str) -> str | None:
    """The words in which Hydra refuses a command; None if something else was printed."""
    words, _, rest = printed.partition("Set the environment variable HYDRA_FULL_ERROR=1")
    return words if rest and "Traceback" not in words else None


def hydras_disk_error(printed: str) -> str | None:
    """A line for the error of a disk that ended Hydra while it prepared a run; None if something else was printed."""
    found = re.search(r"^\w+: \[Errno \d+\] (.+?)(?:: (['\"])(.+)\2)?$", printed, re.MULTILINE)
    if found is None or "Traceback" not in printed:
        return None
    return f"{found[3] or 'a file of the run'} cannot be written to ({found[1]}): choose another hydra.run.dir"


def optunas_refusal(printed: str) -> str | None:
    """A line for the error that ends a search with Optuna without a result; None if something else was printed."""
    if "ValueError: No trials are completed yet." not in printed:
        return None
    return "no run of the search has returned its objective: see the lines above for why"


def suggest_override(config_name: str, arguments: list[str], refusal: str) -> str | None:
    """Return a line on the first override whose option or key does not exist, with the nearest one; or ``None``.

    Args:
        config_name: The primary config.
        arguments: The words of the command line.
        refusal: Hydra's words, which name the key.
    """
    there = re.search(r"An item is already at '([^']+)'", refusal)
    if there is not None:
        return f"{there[1]} is a key of the config already: leave the plus before it out"
    unread = _suggest_word(config_name, arguments, refusal) or _suggest_one(arguments, refusal)
    if unread is not None:
        return unread
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        option = _suggest_option(arguments)
        if option is not None:
            return option
        groups = [group for group in GlobalHydra.instance().config_loader().list_groups("") if group != "hydra"]
        try:
            # With the user's choices of groups, which add keys.
            chosen = [word for word in composable(arguments) if _chooses(*word.partition("=")[:2])]
            known = set(_keys(compose(config_name, chosen)))
        except HydraException:
            known = set(_keys(compose(config_name)))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key[:1] in "-+~" or key in known or "@" in key or "/" in key or key.startswith("hydra."):
            continue
        if f"Could not override '{key}'" not in refusal:
            continue
        if key in groups:
            return f"{key} is a group without a default: type +{key}={value}"
        hint = did_you_mean(key, sorted(known)) or did_you_mean(f"+{key}", [f"+{group}" for group in groups])
        return f"{key} is not a key of the config{hint}; all keys: add --cfg job"
    return None


def _suggest_word(config_name: str, arguments: list[str], refusal: str) -> str | None:
    """A line on the first word that is no override: without an equals sign, or with a value that Hydra cannot read."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if word.startswith("-") or before in WITH_VALUE or parses(word):
            continue
        key, equals, value = word.partition("=")
        if equals:
            # Hydra's other words name the place.
            lost = "LexerNoViableAltException" in refusal
            return f'{word}: this value cannot be read: type "{key}={quoted(value)}"' if lost else None
        folder = split_config_dir(arguments)[0]
        meant = options_named(config_name, word, None if folder is None else Path(folder))
        return f"{word}: did you mean {' or '.join(meant)}?" if meant else f"{word}: type key=value; see --help"
    return None


def _suggest_one(arguments: list[str], refusal: str) -> str | None:
    """A line on a group that is given several times."""
    group = re.search(r"Multiple values for ([\w/]+)\.", refusal)
    given = [word for word in arguments if group is not None and word.lstrip("+").startswith(f"{group[1]}=")]
    return f"{' and '.join(given)}: give one of them" if len(given) > 1 else None


def _suggest_option(arguments: list[str]) -> str | None:
    """A line on the first group whose option does not exist; None if the user gave a folder of configs."""
    if split_config_dir(arguments)[0] is not None:
        return None
    for argument in arguments:
        group, _, option = argument.lstrip("+").partition("=")
        options = GlobalHydra.instance().config_loader().get_group_options(group)
        if options and re.fullmatch(r"\w+", option) and option != "null" and option not in options:
            near = did_you_mean(option, options)
            if near:
                return f"{group} has no option {option}{near}"
            return f"{group} has no option {option}: choose one of {', '.join(options)}"
    return None


def _chooses(key: str, equals: str) -> bool:
    """Whether an override chooses a group's option, adds a key, or adds a folder of configs.

    Other overrides stay out of the composition: a mistyped one would make it fail.
    """
    if not equals:
        return False
    if "." in key:
        return key == "hydra.searchpath"
    return key.startswith("+") or bool(GlobalHydra.instance().config_loader().get_group_options(key))


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, config):
        name = prefix + key
        keys.append(name)
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            keys += _keys(config[key], f"{name}.")
    return keys
