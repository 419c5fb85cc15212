"""One process at a time in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from castlit.cli import shown
from castlit.nn.checks import InputError


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Within the context, no other process may hold this folder. A process that is killed lets go of it.

    Args:
        folder: Made if need be.

    Raises:
        InputError: Another process holds it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".running").open("w") as file:
        try:
            # Not flock: loader processes would inherit it, and outlive a killed run by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{shown(folder)}: another process is training there; stop it, or choose another hydra.run.dir"
            ) from None
        except OSError:
            pass  # A file system without locks.
        yield
