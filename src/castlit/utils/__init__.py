"""What all packages share: argument checks, files, locks, signals, progress, processes. Imports no other package."""
