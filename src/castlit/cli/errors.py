"""One clear line for a mistake of the user's, or of the machine's."""

import os
import traceback

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from castlit.cli.missing import explain_missing
from castlit.utils.atomic_write import FULL
from castlit.utils.validation import InputError

# Error classes by name: castlit.cli imports neither Lightning nor torch.
_MISCONFIGURATION = "lightning_fabric.utilities.exceptions.MisconfigurationException"
_WORKER = "DataLoader worker (pid"  # torch's words for a loader process that has died
_BACKEND = "torch.distributed.DistBackendError"


def full_errors() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def explain_error(error: BaseException) -> str | None:
    """Return one line for the user's mistake; ``None`` for a mistake of ours, which needs its traceback."""
    if isinstance(error, InstantiationException):
        cause = _innermost(error)
        key = str(error).rpartition("full_key: ")[2].strip()
        if cause is error:
            return one_line(str(error))
        line = explain_error(cause) or f"{type(cause).__name__}: {one_line(str(cause))}"
        return f"{key}: {line}" if key and key != "instantiate" else line
    if isinstance(error, (MissingMandatoryValue, InterpolationToMissingValueError)):
        return explain_missing(error)
    if isinstance(error, (InputError, HydraException, OmegaConfBaseException)) or _is_a(error, _MISCONFIGURATION):
        return one_line(str(error))
    if isinstance(error, RuntimeError) and _of_other_processes(error):
        return f"another process of this run has died or does not answer ({one_line(str(error)).rpartition('] ')[2]})"
    if _of_a_dead_loader(error):
        what = one_line(str(error)).rstrip(".")
        what = what if _WORKER in what else f"a loader process has died ({what or type(error).__name__})"
        return f"{what}; was the memory full? Set fewer workers, a smaller batch_size, or data.workers=0 to see why"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
        return one_line(str(error))
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.strerror}: a file cannot be written"
    return None


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def _of_other_processes(error: RuntimeError) -> bool:
    # gloo raises plain RuntimeErrors; those of a timeout do not even contain its name.
    return _is_a(error, _BACKEND) or any(word in str(error) for word in ("gloo", "pair closure"))


def _of_a_dead_loader(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return _WORKER in str(error)
    # The process died before torch looked at it, while it sent a batch.
    if not isinstance(error, (ConnectionError, EOFError)):
        return False
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any("multiprocessing" in file for file in files[-1:]) and any("dataloader" in file for file in files)


def _is_a(error: BaseException, name: str) -> bool:
    """Whether the error is of the class with this full name, without importing the package that defines it."""
    return any(f"{cls.__module__}.{cls.__qualname__}" == name for cls in type(error).__mro__)


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None and isinstance(error, InstantiationException):
        error = error.__cause__
    return error
