"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

import json
import os
import sys
from importlib.resources import files
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from castlit.cli import CONFIG_MODULE, output_dir, program
from castlit.evaluation.protocol import Results, Table
from castlit.figures_table import figures_table, published_rows
from castlit.nn.checks import InputError, require_int
from castlit.subject import asked_for, hand_over


def evaluate(config: DictConfig) -> Results | Table:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    if OmegaConf.is_missing(config, "protocol"):
        raise InputError(f"which protocol? Add one of {', '.join(f'+protocol={name}' for name in protocols())}")
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    # In a file, lines may be as long as they like.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    console = Console(soft_wrap=True, width=width)
    if asked_for(protocol) & {"backbone", "explain"}:
        title, told = str(config.checkpoint), {"checkpoint": str(config.checkpoint)}
    else:
        title, told = "maps against masks", {}
    handed = hand_over(protocol, config)
    results: Results | Table = protocol(**handed)
    file = output_dir() / "results.json"
    published = published_rows(protocol)
    rows: dict[str, Any] = {"published": [row._asdict() for row in published]} if published else {}
    file.write_text(json.dumps({**told, "results": results, **rows}, indent=2) + "\n")
    console.print(figures_table(title, results, published))
    console.print(f"Written to {file}", markup=False)
    return results


def protocols() -> list[str]:
    """The names of all protocols."""
    options = (files(CONFIG_MODULE) / "protocol").iterdir()
    return sorted(option.name.removesuffix(".yaml") for option in options if option.name.endswith(".yaml"))


def main() -> None:
    """Run the program."""
    program("evaluate", evaluate)


if __name__ == "__main__":
    main()
