"""Names from a data set's files, which must not lead out of its folder."""

from pathlib import PurePosixPath, PureWindowsPath


def require_inside(name: str) -> str:
    """Return the name of a file below a folder.

    Args:
        name: A relative path, such as ``val2017/000000000139.jpg``.

    Raises:
        ValueError: It is absolute, or leads above the folder.
    """
    paths = PurePosixPath(name), PureWindowsPath(name)
    if any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths):
        raise ValueError(f"{name!r} leads out of the folder of the images")
    return name
