"""Published metrics, shown beside ours; not reproduced here."""

from typing import NamedTuple


class PublishedRow(NamedTuple):
    """What a paper reports. A protocol's module lists its rows as ``PUBLISHED: list[PublishedRow]``."""

    name: str
    """What was evaluated."""
    figures: dict[str, float]
    """Metrics by name, with the names and the scale of the protocol's own."""
    source: str
    """Where they were read; says ``unverified`` if that was not the primary source."""
