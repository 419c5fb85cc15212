"""Where a protocol's training starts: anew, or where an earlier run of the same was."""

import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only

from castlit.utils.validation import InputError

IDENTITY = "castlit_protocol"
"""Under which a checkpoint says what it is of."""

LAST = Path("checkpoints") / "last.ckpt"
"""Where a run's folder holds its checkpoint."""

_REPLACED = "replaced.ckpt"

_RECORD = "castlit"
"""Under which :class:`castlit.callbacks.ExactResume` notes in a checkpoint, among others, the rows of its log."""


def starting_point(resume: str | None, output: Path, identity: dict[str, Any]) -> tuple[Path | None, int]:
    """The checkpoint to go on from, None to start anew; and how many rows of the folder's log are of it.

    Args:
        resume: None, ``"last"``, or the path of a checkpoint.
        output: The run's folder. What it holds of an earlier run is put aside, if that is not gone on with.
        identity: What makes this run the one that a checkpoint is of: ``protocol``, its name, and plain values.

    Raises:
        InputError: It is missing, damaged, or of another training.
    """
    if resume is None:
        _put_aside(output / LAST)
        return None, 0
    if not isinstance(resume, str):
        raise InputError(f"protocol.resume={resume}: give null, last, or the path of a .ckpt file")
    path = output / LAST if resume == "last" else Path(resume).expanduser()
    if not path.is_file():
        if resume == "last":
            rank_zero_only(print)(f"resume=last: {path} is not there yet, starting anew")
            return None, 0
        raise InputError(f"protocol.resume={resume}: no such file; give null, last, or a .ckpt of such a run")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"protocol.resume={resume}: not a checkpoint, or damaged ({type(error).__name__})") from None
    its = content.get(IDENTITY) if isinstance(content, dict) else None
    if not isinstance(its, dict):
        raise InputError(f"protocol.resume={resume}: not a checkpoint of {identity['protocol']}'s training")
    differing = [key for key in identity if its.get(key) != identity[key]]
    if "protocol" in differing:
        raise InputError(f"protocol.resume={resume} is of another protocol's run: {its.get('protocol')}")
    if differing:
        was = ", ".join(f"{key} was {its.get(key)}, not {identity[key]}" for key in differing[:2])
        raise InputError(f"protocol.resume={resume} is of another run: {was}")
    rank_zero_only(print)(f"resume={resume}: going on from {path}, at step {content['global_step']}")
    own = path.absolute().is_relative_to(output.absolute())
    return path, content.get(_RECORD, {}).get("rows", 0) if own else 0


@rank_zero_only
def _put_aside(last: Path) -> None:
    """A new run in an old run's folder takes its place; but days of training should not hang on a forgotten word."""
    if last.is_file():
        last.replace(last.with_name(_REPLACED))
        print(f"{last} is of an earlier run (protocol.resume=last goes on with it): it is now {_REPLACED}")
