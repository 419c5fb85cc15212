"""Plain values from YAML files of other runs."""

import stat
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

MOST = 100_000
"""Values in a configuration; castlit's have a few hundred."""

MOST_BYTES = 10_000_000
"""Size of a file; castlit's have a few thousand."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some ten times faster, where it is built in


def load_plain(data: bytes) -> Any:  # noqa: ANN401 - whatever a file holds
    """Load plain values.

    Args:
        data: The file's bytes.

    Raises:
        yaml.YAMLError: It is no YAML; or it has too many values: a few lines of aliases can mean gigabytes, or no end.
    """
    try:
        content = _load(data)
    except (ValueError, TypeError, RecursionError) as error:  # dates and numbers that are none, endless nesting
        raise yaml.YAMLError(str(error)) from None
    count, rest = 0, [content]
    while rest:
        value = rest.pop()
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(inside)
        if count > MOST:
            raise yaml.YAMLError(f"it has more than {MOST} values")
        rest += inside
    return content


def read_plain_yaml(path: Path) -> Any:  # noqa: ANN401
    """Load the plain values of a file.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        yaml.YAMLError: As :func:`load_plain`; or it is no regular file, which may never end, or too large.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise yaml.YAMLError("it is not a file")
    if state.st_size > MOST_BYTES:
        raise yaml.YAMLError(f"it has {state.st_size} bytes")
    return load_plain(path.read_bytes())


def _load(data: bytes) -> Any:  # noqa: ANN401
    try:
        return yaml.load(data, Loader=_Loader)
    except yaml.YAMLError as error:
        # A path that is not UTF-8 is written with escapes that the fast loader refuses.
        if "Unicode character escape" not in str(error):
            raise
        return yaml.load(data, Loader=yaml.SafeLoader)
