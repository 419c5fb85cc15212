"""Run the protocol that a config names, write ``results.json`` and print a table."""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from castlit.cli.launch import refuse_relaunched_sweep
from castlit.data.datamodules.worker_loader import end_workers
from castlit.evaluation.inputs import open_parameters, protocol_inputs, published_rows
from castlit.evaluation.mask_origin import protocol_masks
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table, TableWithIntervals
from castlit.reporting.tables import metrics_table
from castlit.utils.cpu_threads import cpu_threads
from castlit.utils.json_files import write_json
from castlit.utils.lightning import pl, rank_zero_only
from castlit.utils.validation import require_int


class Evaluated(NamedTuple):
    """A protocol's results, published ones to compare with, and the origin of the masks that it used."""

    results: Results | Table
    published: list[PublishedRow]
    masks: str | None = None


def run_protocol(config: DictConfig, output: Path) -> Evaluated:
    """Run the config's protocol.

    Args:
        config: The config of ``castlit.evaluate``, with a protocol.
        output: Folder for ``results.json`` and the protocol's other files.

    Raises:
        InputError: The protocol raises it.
    """
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    trainer = getattr(protocol, "keywords", {}).get("trainer")
    if trainer is not None:
        refuse_relaunched_sweep(trainer)
    parameters = open_parameters(protocol)
    try:
        with cpu_threads(config.threads):
            results: Results | Table = protocol(**protocol_inputs(protocol, config, output))
    except BaseException:
        end_workers()  # the error keeps the loaders alive, and a sweep or +protocol=all goes on
        raise
    evaluated = Evaluated(results, published_rows(protocol), protocol_masks(getattr(protocol, "keywords", {})))
    uses_checkpoint = bool(parameters & {"backbone", "explain", "config"})
    runs_protocols = "config" in parameters  # they have printed their tables
    names = {key: str(config[key]) for key in ("checkpoint", "compare") if uses_checkpoint and config[key] is not None}
    _write(evaluated, output, names, show=not runs_protocols)
    return evaluated


@rank_zero_only
def _write(evaluated: Evaluated, output: Path, names: dict[str, str], show: bool) -> None:
    """Write ``results.json`` and print the table, in the first process only.

    Args:
        evaluated: The results.
        output: The run's folder.
        names: ``checkpoint``, and ``compare`` if there is one, as they were typed; none if the protocol uses none.
        show: Whether to print.
    """
    results, published, masks = evaluated
    content: dict[str, Any] = {**names}
    if masks is not None:
        content["masks"] = masks
    content["results"] = results
    if isinstance(results, TableWithIntervals):
        content["intervals"] = results.intervals
    if published:
        content["published"] = [row._asdict() for row in published]
    # Atomic: studies take a run with this file for finished.
    write_json(output / "results.json", content)
    if not show:
        return
    # In a file, long lines are not wrapped.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    console = Console(soft_wrap=True, width=width, highlight=False)
    title = names.get("checkpoint", "maps against masks")
    if "compare" in names:
        title += f", compared with {names['compare']}"
    console.print(metrics_table(title, results, published))
    if masks is not None:
        console.print(f"Masks: {masks}", markup=False)
    for file in (output / "results.json", *sorted(output.glob("*.html"))):
        console.print(f"Written to {file}", markup=False)
