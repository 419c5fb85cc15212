"""One process at a time in a run's folder."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from castlit.utils.paths import display_path
from castlit.utils.validation import InputError

LOCK = ".running"
"""The locked file in a run's folder."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process, within the context. The lock ends with the process, even if it is killed.

    Args:
        folder: Created if missing.

    Raises:
        InputError: Another process has locked it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            # Not flock: loader processes would inherit it, and they outlive a killed run by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{display_path(folder)}: another process is training there; stop it, or choose another hydra.run.dir"
            ) from None
        except OSError:
            pass  # The file system has no locks.
        yield


@contextmanager
def output_folder_lock(folder: Path, output: Path, message: str) -> Iterator[None]:
    """Lock the folder of a program's output for this process, within the context.

    Args:
        folder: The folder that is locked.
        output: The output, as the user gave it.
        message: What to say if another process has locked the folder.

    Raises:
        InputError: Another process has locked it, or it cannot be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(run_lock(folder))
        except InputError:
            raise InputError(message) from None
        except OSError as error:
            raise InputError(f"output={output} cannot be written to ({error.strerror})") from None
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process on this machine has locked this folder."""
    if os.name != "posix":
        return False
    import fcntl

    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # No run has used this folder, or the file system has no locks.
    return False
