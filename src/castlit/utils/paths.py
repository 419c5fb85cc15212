"""How messages show paths."""

from pathlib import Path


def display_path(path: Path) -> str:
    """Return the path relative to the current folder if it is inside; links stay, because a .venv's Python is one."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
