"""Where Lightning's lines go, and silence for those that do not apply to castlit."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

ADVICE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*sync_dist=True.*",
    ".*Using `DistributedSampler` with the dataloaders.*",
    ".*LeafSpec.*",
    ".*smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*the hooks will not be called on every batch.*",  # castlit's counts optimiser steps
)
"""Patterns of the warnings to ignore."""

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:  # Python 3.10 has no generic one
    _StreamHandler = logging.StreamHandler


class _OnStderr(_StreamHandler):
    """Writes to what ``sys.stderr`` is at the time of the line: a caller may replace it, and close the old one."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def lightning_on_stderr() -> None:
    """Send Lightning's log lines to standard error, and nowhere else.

    Lightning does so itself where it is imported before other logging is set up. Programs import it after Hydra has set
    up the run's log.
    """
    for name in ("lightning_fabric", "pytorch_lightning"):
        if name not in sys.modules:
            lines = logging.getLogger(name)
            lines.handlers, lines.propagate = [_OnStderr()], False


@contextmanager
def quiet_lightning(*more: str) -> Iterator[None]:
    """Within the context, Lightning prints no line below the level of a warning, and none of :data:`ADVICE`.

    Args:
        *more: Patterns of other warnings to ignore.
    """
    lines = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    before = lines.level
    lines.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for advice in (*ADVICE, *more):
                warnings.filterwarnings("ignore", message=advice)
            yield
    finally:
        lines.setLevel(before)
