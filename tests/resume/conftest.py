"""Fixtures to train with; every test starts from the same random numbers."""

from support.training import fit, make_backbone, samples, seeded

__all__ = ["fit", "make_backbone", "samples", "seeded"]
