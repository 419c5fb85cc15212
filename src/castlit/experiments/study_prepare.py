"""Programs that a study runs once, before its first run, such as those that make masks."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from castlit.utils.json_files import load_json, write_json
from castlit.utils.validation import InputError

DONE = "prepared.json"
"""In a study's folder: the commands that have succeeded."""


def prepare(commands: Sequence[Sequence[str]], output: Path, threads: int | None = None) -> None:
    """Run the commands that have not succeeded before, in their order.

    Args:
        commands: Each a module and its arguments, as ``[castlit.make_scenes, output=scenes]``.
        output: The study's folder.
        threads: Of each process; None leaves that to torch.

    Raises:
        InputError: A command fails; the next call starts with it.
    """
    path = output / DONE
    done = _done(path)
    for command in [list(map(str, command)) for command in commands]:
        if command in done:
            continue
        code = subprocess.run([sys.executable, "-m", *command], env=environment(threads), check=False).returncode
        if code:
            raise InputError(f"prepare: python -m {' '.join(command)} failed with exit code {code}")
        done.append(command)
        write_json(path, done)


def _done(path: Path) -> list[list[str]]:
    """The commands that a file lists; none where it is missing or damaged, since they can be run again."""
    try:
        found = load_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return found if isinstance(found, list) else []


def environment(threads: int | None) -> dict[str, str]:
    """This process's environment, with a number of threads for the programs that a study starts."""
    return {**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
