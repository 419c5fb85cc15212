"""Write shards: ``python -m castlit.make_shards images=/photos masks=/photo_masks output=/shards``."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from castlit.cli.app import program
from castlit.data.io.data_report import DataReport
from castlit.utils.validation import InputError, require_int

if TYPE_CHECKING:
    from castlit.data.shards.write import Written


def main() -> None:
    """Run the program."""
    program("make_shards", make_shards)


def make_shards(config: DictConfig) -> "Written":
    """Write shards as the config says, and print the command to train on them."""
    folder = Path(config.output).expanduser()
    samples_per_shard = require_int("samples_per_shard", config.samples_per_shard, 1)
    seed = require_int("seed", config.seed, 0)
    import numpy as np

    from castlit.data.index.file_source import FileSource
    from castlit.data.io.masks import THRESHOLD
    from castlit.data.shards.closing_lines import print_closing_lines
    from castlit.data.shards.write import refuse_shards, write_shards

    refuse_shards(folder)
    report = DataReport(folder / "data_report.csv")
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
    if config.shuffle:
        np.random.default_rng(seed).shuffle(order)
    written = write_shards(source, order.tolist(), folder, samples_per_shard)
    if not written.counts:
        raise InputError(f"none of the {len(source.index)} images could be used; all are listed in {report.path}")
    print_closing_lines(written, folder, len(source.index), config.masks is not None, source.mask_kind)
    return written


if __name__ == "__main__":
    main()
