"""JSON files: reading those that may be damaged, and writing complete ones."""

import json
from pathlib import Path
from typing import Any

from castlit.utils.atomic_write import write_atomic


def load_json(data: str | bytes) -> Any:  # noqa: ANN401 - whatever a file holds
    """Load JSON.

    Args:
        data: The file's content.

    Raises:
        ValueError: It is no JSON, no text, or nested too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(path: Path, content: Any, *, lasting: bool = False, writer: str | None = None) -> None:  # noqa: ANN401
    """Write a JSON file, indented, beside its place, then rename it.

    Args:
        path: The file; its folder is created where it is missing.
        content: What it holds, of types that JSON has.
        lasting: As in :func:`~castlit.utils.atomic_write.write_atomic`.
        writer: As in :func:`~castlit.utils.atomic_write.write_atomic`.

    Raises:
        OSError: It cannot be written; the old file is unchanged.
    """
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), lasting=lasting, writer=writer)
