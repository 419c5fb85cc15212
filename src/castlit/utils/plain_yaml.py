"""Plain values from YAML files of other runs."""

from typing import Any

import yaml  # type: ignore[import-untyped]

MOST = 100_000
"""Values in a configuration; castlit's have a few hundred."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some ten times faster, where it is built in


def load_plain(data: bytes) -> Any:  # noqa: ANN401 - whatever a file holds
    """Load plain values.

    Args:
        data: The file's bytes.

    Raises:
        yaml.YAMLError: It is no YAML; or it has too many values: a few lines of aliases can mean gigabytes, or no end.
    """
    content = yaml.load(data, Loader=_Loader)
    count, rest = 0, [content]
    while rest:
        value = rest.pop()
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(inside)
        if count > MOST:
            raise yaml.YAMLError(f"it has more than {MOST} values")
        rest += inside
    return content
