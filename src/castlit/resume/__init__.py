"""Resuming training exactly where it stopped: Lightning's fault tolerance, for all trainings of castlit."""
