"""What every room shares: argument checks, files, locks, signals, progress, processes. Imports nothing of castlit above it."""
