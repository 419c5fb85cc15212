"""Every test starts from the same random numbers."""

from support.training import seeded

__all__ = ["seeded"]
