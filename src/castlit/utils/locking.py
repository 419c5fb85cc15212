"""One process at a time in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from castlit.utils.paths import shown
from castlit.utils.validation import InputError


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


def is_held(folder: Path) -> bool:
    """Whether a process holds this folder now, as far as this machine can tell."""
    if os.name != "posix":
        return False
    import fcntl

    try:
        with (folder / ".running").open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # No run has been here, or a file system without locks.
    return False
