"""Read a run's ``metrics.csv``, without Lightning."""

import csv
from pathlib import Path


def by_epoch(path: Path, metric: str) -> dict[int, float]:
    """Read a validation metric's curve: completed epochs → value; 0 is before training.

    Args:
        path: A ``metrics.csv``.
        metric: Such as ``val/knn``. If logged more often, each epoch's last value counts.

    Raises:
        ValueError: castlit did not write the file.
    """
    found: dict[int, float] = {}
    trained = -1  # the last epoch with training rows, by Lightning's count
    for row in read_metrics(path)[1]:
        if None in row or None in row.values() or not (row.get("epoch") and row.get("step")):
            continue  # a line truncated by a killed run
        epoch = int(row["epoch"])
        if any(value for name, value in row.items() if name.startswith("train/")):
            trained = epoch
        if row.get(metric):
            # Validation within an epoch logs the epoch's number from 0; before or after training, the number of
            # completed epochs.
            found[epoch + 1 if epoch == trained else epoch] = float(row[metric])
    return found


def read_metrics(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The header and the rows of a ``metrics.csv``.

    Raises:
        ValueError: castlit did not write the file.
    """
    # A power cut may leave zeros, or half a character.
    with path.open(newline="", errors="replace") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        try:
            return list(reader.fieldnames or []), list(reader)
        except csv.Error as error:
            raise ValueError(str(error)) from None
