"""How messages show paths."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_shown_from: ContextVar[Path | None] = ContextVar("shown_from", default=None)


@contextmanager
def shown_from(folder: Path) -> Iterator[None]:
    """Within the context, paths are shown relative to this folder, such as the one where the command was typed."""
    before = _shown_from.set(folder)
    try:
        yield
    finally:
        _shown_from.reset(before)


def display_path(path: Path) -> str:
    """Return the path relative to the current folder if it is inside; links stay, because a .venv's Python is one."""
    path, base = path.absolute(), _shown_from.get() or Path.cwd()
    return str(path.relative_to(base) if path.is_relative_to(base) else path)
