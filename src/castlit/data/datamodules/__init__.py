"""Datasets, loaders and LightningDataModules."""
