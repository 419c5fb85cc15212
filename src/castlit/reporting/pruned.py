"""Why a run of a sweep was ended early, in words."""

from collections.abc import Mapping
from typing import Any


def why_pruned(pruned: Mapping[str, Any]) -> str:
    """Describe :attr:`castlit.callbacks.Pruning.pruned`, as it is in ``summary.json``."""
    best = "never finite" if pruned["best"] is None else f"at most {pruned['best']:.4g}"
    return f"{pruned['figure']} was {best}, the median of {pruned['runs']} finished runs {pruned['median']:.4g}"
