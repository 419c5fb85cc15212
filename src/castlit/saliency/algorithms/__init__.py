"""Saliency maps without labels or training: four published methods, their fusion, and baselines."""
