"""Measure the networks that a benchmark's command line names, and save its row after each."""

from castlit.bench.machine import machine
from castlit.utils.json_files import write_json


def measure_networks(row, named_checkpoints, measure, output):
    """Add ``networks`` and ``machine`` to a row: for each NAME=CHECKPOINT the fractions that ``measure`` returns.

    A name that is given several times has a list entry for each of its checkpoints.
    """
    row = {**row, "networks": {}, "machine": machine()}
    for named in named_checkpoints:
        name, _, checkpoint = named.partition("=")
        found = {key: round(value, 4) for key, value in measure(checkpoint).items()}
        row["networks"].setdefault(name, []).append(found)
        print(f"{name:28}", found, flush=True)
        if output:
            write_json(output, row)
