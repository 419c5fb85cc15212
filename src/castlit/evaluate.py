"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

import json
import pickle
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from castlit.cli import output_dir, program  # First: it sets what albumentations reads on import.
from castlit.module import CASTModule
from castlit.nn.checks import InputError


def evaluate(config: DictConfig) -> dict[str, float]:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    pl.seed_everything(config.seed, verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = load_module(config.checkpoint).eval().to(device, memory_format=torch.channels_last)
    results: dict[str, float] = protocol(module.explain, device)
    file = output_dir() / "results.json"
    file.write_text(json.dumps({"checkpoint": str(config.checkpoint), "results": results}, indent=2) + "\n")
    table = Table(title=str(config.checkpoint))
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in results.items():
        table.add_row(name, f"{value:.3f}" if abs(value) <= 1 else f"{value:g}")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"Written to {file}")
    return results


def load_module(path: str) -> CASTModule:
    """Load a module from its checkpoint, wherever it was trained.

    Raises:
        InputError: No such file, or not a checkpoint of castlit's.
    """
    if not Path(path).is_file():
        raise InputError(f"checkpoint={path}: no such file; give the .ckpt file of a training run")
    try:
        return CASTModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"checkpoint={path}: not a checkpoint that castlit can read ({reason})") from error


def main() -> None:
    """Run the program."""
    program("evaluate", evaluate)


if __name__ == "__main__":
    main()
