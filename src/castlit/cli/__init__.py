"""Command line and configuration: what all programs share. Imports neither torch nor Lightning."""
