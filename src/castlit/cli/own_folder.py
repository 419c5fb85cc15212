"""A folder named after the time belongs to one run, even if two runs start in the same second."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, read_write

from castlit.cli.launch import RANKS
from castlit.cli.overrides import quoted

_SECONDS = "%S"
"""In the pattern of a folder named after the time; Hydra's own patterns end with it."""


def own_folder(config: DictConfig, key: str, folder: Path) -> Path:
    """Make the folder of a run or sweep. If another one has it, append ``-2``, or the next free number, to its name.

    This concerns folders named after the second only. Others may hold a run that continues, and several processes of
    one run agree on a folder before.

    Args:
        config: Hydra's and the program's. It gets the new name, also among its overrides: the jobs of a sweep are
            composed from these.
        key: Of the folder: ``hydra.run.dir`` or ``hydra.sweep.dir``.
        folder: Its value.

    Returns:
        The folder that the run has, to itself.
    """
    group, _, name = key.rpartition(".")
    pattern = OmegaConf.to_container(OmegaConf.select(config, group), resolve=False)
    if not isinstance(pattern, dict) or _SECONDS not in str(pattern[name]) or any(rank in os.environ for rank in RANKS):
        return folder
    own = next(each for each in _names(folder) if _made(each))
    if own != folder:
        with read_write(config.hydra):
            OmegaConf.update(config, key, str(own))
            config.hydra.overrides.hydra.append(f"{key}={quoted(str(own))}")
    return own


def _names(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def _made(folder: Path) -> bool:
    """Whether this call has made it. The file system lets one of two processes do so."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True
