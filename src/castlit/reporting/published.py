"""Published figures, to stand beside ours; no one here has reproduced them."""

from typing import NamedTuple


class PublishedRow(NamedTuple):
    """What a paper reports. A protocol's module lists its rows as ``PUBLISHED: list[PublishedRow]``."""

    name: str
    """What was evaluated."""
    figures: dict[str, float]
    """Under the names, and on the scale, of the protocol's own figures."""
    source: str
    """Where it was read; says ``unverified`` where that was not the primary source."""
