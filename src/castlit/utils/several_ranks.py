"""Whether a process is one of several ranks, asked without importing torch."""

import sys


def several_ranks() -> bool:
    """Return whether this process is one of several ranks; it is not where nothing has imported torch yet."""
    if "torch" not in sys.modules:
        return False
    from castlit.utils.distributed import world_size

    return world_size() > 1
