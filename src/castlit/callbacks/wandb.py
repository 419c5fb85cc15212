"""Weights & Biases, with or without an account."""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from castlit.utils.lightning import pl


def wandb_logger(
    save_dir: str | Path,
    project: str = "castlit",
    offline: bool | None = None,
    **options: Any,  # noqa: ANN401
) -> pl.loggers.WandbLogger:
    """Return a W&B logger that never prompts for a key.

    Args:
        save_dir: Folder for W&B's files; created if needed.
        project: W&B project.
        offline: Keep everything on this machine; ``wandb sync`` uploads it later. ``None``: offline if this machine is
            not logged in, unless ``WANDB_MODE`` is set.
        **options: Passed to Lightning's ``WandbLogger``.
    """
    if offline is None:
        offline = "WANDB_MODE" not in os.environ and not _logged_in()
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return pl.loggers.WandbLogger(project=project, save_dir=save_dir, offline=offline, **options)


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
