"""Studies over configurations and seeds, and comparisons of runs."""
