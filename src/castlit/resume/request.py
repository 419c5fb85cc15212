"""What the user may give for ``resume``."""

import os
from pathlib import Path

from castlit.utils.validation import InputError

LAST = "last"
"""The value of ``resume`` for the run's own last checkpoint."""

LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
"""The last checkpoint's place in a run's folder."""

PREVIOUS = "previous.ckpt"
"""The name, beside it, of the one before: the last one may be damaged."""


def requested(resume: object, key: str = "resume") -> str | None:
    """Return what to resume; in a job that SLURM has requeued, None becomes ``"last"``.

    Raises:
        InputError: It is neither null, nor ``last``, nor a path.
    """
    if resume is None:
        return LAST if os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0") else None
    if not isinstance(resume, str) or not resume:
        raise InputError(f"{key} must be null, last, or the path of a .ckpt file; got {resume!r}")
    return resume
