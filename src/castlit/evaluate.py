"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

import inspect
import json

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from castlit.checkpoints import read_checkpoint
from castlit.cli import output_dir, program
from castlit.evaluation.protocol import Results, Table
from castlit.module import CASTModule
from castlit.nn.checks import InputError, require_int

PROTOCOLS = ("scenes", "grounding", "saliency")


def evaluate(config: DictConfig) -> Results | Table:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    if OmegaConf.is_missing(config, "protocol"):
        raise InputError(f"which protocol? Add one of {', '.join(f'+protocol={name}' for name in PROTOCOLS)}")
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    console = Console(soft_wrap=True)
    if "explain" not in inspect.signature(protocol).parameters:
        title = "maps against masks"
        results: Results | Table = protocol()
        told: dict[str, object] = {"results": results}
    else:
        title = str(config.checkpoint)
        module, device = _network(config)
        with console.status("Evaluating; this takes a minute on a CPU"):
            results = protocol(module.explain, device)
        told = {"checkpoint": title, "results": results}
    file = output_dir() / "results.json"
    file.write_text(json.dumps(told, indent=2) + "\n")
    console.print(_table(title, results))
    console.print(f"Written to {file}", markup=False)
    return results


def _network(config: DictConfig) -> tuple[CASTModule, torch.device]:
    """The checkpoint's network, ready on its device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    read_checkpoint(config.checkpoint)
    # As in training, unless the user says otherwise; a function of the user's own cannot be in a checkpoint.
    look = {"attention": instantiate(config.attention, _convert_="all")} if "attention" in config else {}
    module = CASTModule.load_from_checkpoint(config.checkpoint, map_location="cpu", weights_only=True, **look)
    return module.eval().to(device, memory_format=torch.channels_last), device


def _table(title: str, results: Results | Table) -> RichTable:
    """One line for each figure; or, of several things, a line for each with its figures beside it."""
    table = RichTable(title=escape(title))
    rows = {name: value if isinstance(value, dict) else {"value": value} for name, value in results.items()}
    table.add_column("" if any(isinstance(value, dict) for value in results.values()) else "figure")
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(f"{value:.3f}" if abs(value) <= 1 else f"{value:g}" for value in figures.values()))
    return table


def main() -> None:
    """Run the program."""
    program("evaluate", evaluate)


if __name__ == "__main__":
    main()
