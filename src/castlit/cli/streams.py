"""Let streams write the names of any files, such as those that are not UTF-8, or emoji in a terminal of ASCII."""

import io
import logging
import sys
from contextlib import suppress


def accept_any_name() -> None:
    """Escape what the output and logs cannot hold. Python would lose such a line, and print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        _reconfigure(stream)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            _reconfigure(handler.stream, encoding="utf-8")


def _reconfigure(stream: object, encoding: str | None = None) -> None:
    if isinstance(stream, io.TextIOWrapper):
        with suppress(OSError):  # it flushes first; who writes next to a full disk gets the error
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
