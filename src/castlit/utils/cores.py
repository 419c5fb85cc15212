"""How many processor cores this process may use."""

import os


def available_cores() -> int:
    """The cores that this process may run on, which a scheduler may have limited; at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
