"""Benchmarks: ``python -m castlit.bench data`` and ``step``."""
