"""JSON from files that may be damaged."""

import json
from typing import Any


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
