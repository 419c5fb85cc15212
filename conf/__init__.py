"""Hydra configuration groups: what can be chosen and set from the command line."""
