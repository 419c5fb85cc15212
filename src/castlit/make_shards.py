"""Write shards: ``python -m castlit.make_shards images=/photos masks=/photo_masks output=/shards``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from castlit.cli.app import program
from castlit.data.io.data_report import DataReport, rows_during_training
from castlit.utils.locking import output_folder_lock
from castlit.utils.signals import Stopped, stoppable
from castlit.utils.validation import InputError, require_bool, require_int, require_path

if TYPE_CHECKING:
    from castlit.data.index.file_source import FileSource
    from castlit.data.shards.write import Written


def main() -> None:
    """Run the program."""
    program("make_shards", make_shards)


def make_shards(config: DictConfig) -> "Written":
    """Write shards as the config says, and print the command to train on them.

    Raises:
        InputError: A setting is wrong, files are bad, or the output has other shards.
    """
    folder = require_path("output", config.output)
    shuffle = require_bool("shuffle", config.shuffle)
    samples_per_shard = require_int("samples_per_shard", config.samples_per_shard, 1)
    seed = require_int("seed", config.seed, 0)
    from castlit.data.shards.closing_lines import print_closing_lines
    from castlit.data.shards.write import refuse_shards

    refuse_shards(folder)
    for key in ("images", "masks"):
        given = None if config[key] is None else require_path(key, config[key]).resolve()
        if given is not None and given in (folder.resolve(), *folder.resolve().parents):
            # As long as the shards are unfinished, the images would be, too.
            raise InputError(f"output={folder} is inside {key}={config[key]}: give a folder outside of it")
    with _lock(folder), stoppable():
        try:
            written, source = _make(config, folder, samples_per_shard, seed if shuffle else None)
        except Stopped as stop:
            print(f"{stop.name}: stopped. The same command continues from here", file=sys.stderr)
            raise
    print_closing_lines(written, folder, len(source.index), config.masks is not None, source.mask_kind)
    return written


def _make(config: DictConfig, folder: Path, samples_per_shard: int, seed: int | None) -> "tuple[Written, FileSource]":
    import numpy as np

    from castlit.data.index.file_source import FileSource
    from castlit.data.io.masks import THRESHOLD
    from castlit.data.shards.unfinished import read_progress
    from castlit.data.shards.write import write_shards

    file = folder / "data_report.csv"
    before, earlier = read_progress(folder), rows_during_training(file)
    old = file.read_bytes() if before is not None and file.is_file() else None
    try:
        report = DataReport(file)
        source = FileSource(
            config.images,
            config.masks,
            on_bad=config.on_bad,
            threshold=THRESHOLD if config.threshold is None else config.threshold,
            mask_kind=config.mask_kind,
            cache=config.cache,
            report=report,
        )
        order = np.arange(len(source))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        if before is not None and before.shards:
            # What was found in the shards that stay; the others are read again.
            again = {source.entry(i).image for i in order[before.position :].tolist()}
            report.add(row for row in earlier if row[1] not in again)
        written = write_shards(source, order.tolist(), folder, samples_per_shard)
    except Exception:
        if old is not None and read_progress(folder) == before:
            file.write_bytes(old)  # a mistake: the report stays that of the shards that are there
        raise
    if not written.counts:
        raise InputError(f"none of the {len(source.index)} images could be used; all are listed in {report.path}")
    return written, source


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Within the context, no other process writes shards here."""
    with output_folder_lock(folder, folder, f"output={folder}: another process is writing these shards"):
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / ".running").unlink()
                folder.rmdir()  # if it is empty: the user's mistake ended it before it did anything


if __name__ == "__main__":
    main()
