"""Paths as messages show them."""

from pathlib import Path


def shown(path: Path) -> str:
    """Return the path as one would type it here; links are kept, as a .venv's Python is one."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
