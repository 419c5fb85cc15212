"""What a study needs before its runs, such as masks: programs that are run once."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from castlit.utils.atomic_write import write_whole
from castlit.utils.validation import InputError

DONE = "prepared.json"
"""In a study's folder: the commands that were carried out."""


def prepare(commands: Sequence[Sequence[str]], output: Path, threads: int | None = None) -> None:
    """Run what was not run before, in its order.

    Args:
        commands: Each a module and its words, as ``[castlit.make_scenes, output=scenes]``.
        output: The study's folder.
        threads: Of each process; None leaves that to torch.

    Raises:
        InputError: A command fails; the next try begins with it.
    """
    environment = {**os.environ, **({} if threads is None else {"OMP_NUM_THREADS": str(threads)})}
    path = output / DONE
    done: list[list[str]] = json.loads(path.read_text()) if path.exists() else []
    for command in [list(map(str, command)) for command in commands]:
        if command in done:
            continue
        code = subprocess.run([sys.executable, "-m", *command], env=environment, check=False).returncode
        if code:
            raise InputError(f"prepare: python -m {' '.join(command)} failed with exit code {code}")
        done.append(command)
        write_whole(path, (json.dumps(done, indent=1) + "\n").encode())
