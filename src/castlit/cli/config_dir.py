"""Configs of the user's own: the folder that ``--config-dir`` adds to castlit's."""

import argparse
from pathlib import Path

from castlit.cli.overrides import quoted


def split_config_dir(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take the folder of the user's configs out of a command line.

    Args:
        arguments: The words of the command line.

    Returns:
        The folder as it was typed, or None; and all other words.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(arguments)
    return known.config_dir, rest


def composable(arguments: list[str]) -> list[str]:
    """Return the words with ``--config-dir`` said as an override: Hydra's compose() knows no other."""
    folder, rest = split_config_dir(arguments)
    if folder is None:
        return rest
    source = f"file://{Path(folder).absolute()}"
    return [*rest, f"hydra.searchpath=[{quoted(source)}]"]
