"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from castlit.cli.app import CONFIG_MODULE, output_dir, program
from castlit.cli.launch import end_with_parent, in_one_folder, refuse_relaunched_sweep
from castlit.evaluation.inputs import asked_for, hand_over, published_rows
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table
from castlit.reporting.tables import metrics_table
from castlit.utils.atomic_write import write_whole
from castlit.utils.validation import InputError, require_int


class Evaluated(NamedTuple):
    """What came of a protocol."""

    results: Results | Table
    published: list[PublishedRow]


def evaluate(config: DictConfig) -> Results | Table:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    return run_protocol(config, output_dir()).results


def run_protocol(config: DictConfig, output: Path) -> Evaluated:
    """Run the config's protocol.

    Args:
        config: That of this program.
        output: Folder for ``results.json`` and for whatever else the protocol writes.

    Raises:
        InputError: No protocol is given, or what the protocol raises.
    """
    if OmegaConf.is_missing(config, "protocol"):
        raise InputError(f"which protocol? Add one of {', '.join(f'+protocol={name}' for name in protocols())}")
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    trainer = getattr(protocol, "keywords", {}).get("trainer")
    if trainer is not None:
        refuse_relaunched_sweep(trainer)
    with_network = bool(asked_for(protocol) & {"backbone", "explain", "config"})
    told: dict[str, Any] = {"checkpoint": str(config.checkpoint)} if with_network else {}
    results: Results | Table = protocol(**hand_over(protocol, config, output))
    evaluated = Evaluated(results, published_rows(protocol))
    _hand_in(evaluated, output, told, show="config" not in asked_for(protocol))
    return evaluated


@rank_zero_only
def _hand_in(evaluated: Evaluated, output: Path, told: dict[str, Any], show: bool) -> None:
    """Write ``results.json`` and print the table, once for all processes.

    Args:
        evaluated: What came out.
        output: The run's folder.
        told: What ``results.json`` says besides.
        show: Whether to print: a protocol that ran others has had them print theirs.
    """
    results, published = evaluated
    rows = {"published": [row._asdict() for row in published]} if published else {}
    # Whole or not there: for studies, a run with this file is done.
    text = json.dumps({**told, "results": results, **rows}, indent=2) + "\n"
    write_whole(output / "results.json", text.encode())
    if not show:
        return
    # In a file, lines may be as long as they like.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    console = Console(soft_wrap=True, width=width, highlight=False)
    console.print(metrics_table(told.get("checkpoint", "maps against masks"), results, published))
    for written in (output / "results.json", *sorted(output.glob("*.html"))):
        console.print(f"Written to {written}", markup=False)


def protocols() -> list[str]:
    """The names of all protocols."""
    options = (files(CONFIG_MODULE) / "protocol").iterdir()
    return sorted(option.name.removesuffix(".yaml") for option in options if option.name.endswith(".yaml"))


def main() -> None:
    """Run the program."""
    end_with_parent()
    program("evaluate", evaluate, prepare=in_one_folder)


if __name__ == "__main__":
    main()
