"""Where configs are: castlit's own, and those of ``--config-dir``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from castlit.cli.overrides import quoted

CONFIG_MODULE = "castlit.conf"


def split_config_dir(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Split the folder of the user's configs off a command line.

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
    """Replace ``--config-dir`` by an override: Hydra's compose() accepts overrides only."""
    folder, rest = split_config_dir(arguments)
    if folder is None:
        return rest
    return [*rest, search_override([folder])]


def search_override(folders: Sequence[str | Path]) -> str:
    """The override that has Hydra's compose() find configs in these folders, too."""
    sources = [quoted(f"file://{Path(folder).absolute()}") for folder in folders]
    return f"hydra.searchpath=[{','.join(sources)}]"
