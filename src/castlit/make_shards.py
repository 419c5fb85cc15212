"""Write shards: ``python -m castlit.make_shards images=/photos masks=/photo_masks output=/shards``."""

import re
import shlex
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.filesize import decimal

from castlit.cli.app import program, this_python
from castlit.cli.overrides import quoted
from castlit.data.index.file_source import FileSource
from castlit.data.io.data_report import DataReport
from castlit.data.io.masks import THRESHOLD
from castlit.data.shards.writing import Written, refuse_shards, write_shards
from castlit.utils.validation import InputError, require_int


def make_shards(config: DictConfig) -> Written:
    """Write shards as the config says, and print what to do with them."""
    images, masks, folder = config.images, config.masks, Path(config.output).expanduser()
    samples_per_shard = require_int("samples_per_shard", config.samples_per_shard, 1)
    seed = require_int("seed", config.seed, 0)
    refuse_shards(folder)
    report = DataReport(folder / "data_report.csv")
    source = FileSource(
        images,
        masks,
        on_bad=config.on_bad,
        threshold=THRESHOLD if config.threshold is None else config.threshold,
        cache=config.cache,
        report=report,
    )
    order = np.arange(len(source))
    if config.shuffle:
        np.random.default_rng(seed).shuffle(order)
    written = write_shards(source, order.tolist(), folder, samples_per_shard)
    if not written.counts:
        raise InputError(f"none of the {len(source.index)} images could be used; all are listed in {report.path}")
    _tell(written, folder, len(source.index), masks is None)
    return written


def _tell(written: Written, folder: Path, found: int, images_alone: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    samples = sum(written.counts.values())
    notes = [f"{samples} samples in {len(written.counts)} shards, {decimal(written.bytes)}, in {folder}"]
    if found > samples:
        notes.append(f"{found - samples} images left out")
    if written.bare and not images_alone:
        notes.append(f"{written.bare} without a mask")
    listed = ", listed in data_report.csv" if len(notes) > 1 else ""
    console.print(f"Wrote {'; '.join(notes)}{listed}", markup=False)
    names = list(written.counts)
    shards = names[0] if len(names) == 1 else f"{{{names[0][:-4]}..{names[-1][:-4]}}}.tar"
    urls = _typed("data.urls", str(folder.absolute() / shards))
    alone = " data.masks=null" if images_alone else ""
    console.print("Train on them next:", markup=False)
    command = f"{this_python()} -m castlit.train +experiment=cast_mocov2 data=shards {urls}{alone}"
    console.print(f"  {command}", style="bold", markup=False)


def _typed(key: str, value: str) -> str:
    """An override as a shell takes it: in plain double quotes, unless the value needs more."""
    if re.fullmatch(r"[\w/.{}~ -]+", value):
        return f'{key}="{value}"'
    return shlex.quote(f"{key}={quoted(value)}")


def main() -> None:
    """Run the program."""
    program("make_shards", make_shards)


if __name__ == "__main__":
    main()
