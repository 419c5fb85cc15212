"""Fixtures for training; seed every test."""

from support.training import fit, make_backbone, samples, seeded

__all__ = ["fit", "make_backbone", "samples", "seeded"]
