"""Side-by-side measurements: ``python -m castlit.bench data``."""
