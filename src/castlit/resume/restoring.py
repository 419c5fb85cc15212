"""One line for a checkpoint that Lightning, or castlit's own callbacks, cannot restore."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType

from castlit.resume.exact_resume import ExactResume
from castlit.utils.validation import InputError

_LIGHTNING = "checkpoint_connector.py"
_OWN = {ExactResume.on_load_checkpoint.__code__, ExactResume.on_train_start.__code__}


@contextmanager
def restoring(checkpoint: Path | None) -> Iterator[None]:
    """Within the context, a training continues from a checkpoint.

    Args:
        checkpoint: None where it starts from scratch.

    Raises:
        InputError: An error came while the checkpoint was restored: its content is damaged, or of another version.
    """
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        if checkpoint is None or not any(_restores(frame) for frame, _ in walk_tb(error.__traceback__)):
            raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{checkpoint}: cannot be resumed; it is damaged, or of another version ({what})") from error


def _restores(frame: FrameType) -> bool:
    code = frame.f_code
    return code in _OWN or (Path(code.co_filename).name == _LIGHTNING and "restore" in code.co_name)
